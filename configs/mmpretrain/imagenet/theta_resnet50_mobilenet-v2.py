# MobileNet-V2 distilled from ResNet-50 on ImageNet by FM-KT^Theta.
_base_ = './fmkt_resnet50_mobilenet-v2.py'
model = dict(
    variant='theta',
    # The flow is not deployed, so that its cost does not matter.
    flow=dict(encoder=dict(_delete_=True, type='ConvEncoder')),
)
