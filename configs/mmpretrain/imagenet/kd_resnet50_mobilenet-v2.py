# MobileNet-V2 distilled from ResNet-50 on ImageNet by KD, without a flow.
_base_ = './fmkt_resnet50_mobilenet-v2.py'
model = dict(
    variant='direct',
    flow=dict(metric=dict(_delete_=True, type='KDLoss', temperature=1.0)),
)
