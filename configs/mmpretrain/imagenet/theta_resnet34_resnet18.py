# ResNet-18 distilled from ResNet-34 on ImageNet by FM-KT^Theta.
_base_ = './fmkt_resnet34_resnet18.py'
model = dict(
    variant='theta',
    # The flow is not deployed, so that its cost does not matter.
    flow=dict(encoder=dict(_delete_=True, type='ConvEncoder')),
)
