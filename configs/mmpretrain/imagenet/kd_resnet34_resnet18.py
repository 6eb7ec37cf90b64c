# ResNet-18 distilled from ResNet-34 on ImageNet by KD, without a flow.
_base_ = './fmkt_resnet34_resnet18.py'
model = dict(
    variant='direct',
    flow=dict(metric=dict(_delete_=True, type='KDLoss', temperature=1.0)),
)
