# MobileNet-V2 under ResNet-50 on ImageNet by FM-KT^Theta.
_base_ = './fmkt_resnet50_mobilenet-v2.py'
model = dict(
    variant='theta',
    # The flow is not deployed.
    flow=dict(encoder=dict(_delete_=True, type='ConvEncoder')),
)
