# ResNet-18 under ResNet-34 on ImageNet by FM-KT^Theta.
_base_ = './fmkt_resnet34_resnet18.py'
model = dict(
    variant='theta',
    # The flow is not deployed.
    flow=dict(encoder=dict(_delete_=True, type='ConvEncoder')),
)
