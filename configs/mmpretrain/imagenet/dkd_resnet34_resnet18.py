# ResNet-18 distilled from ResNet-34 on ImageNet by DKD, without a flow.
_base_ = './fmkt_resnet34_resnet18.py'
model = dict(
    variant='direct',
    flow=dict(
        # As mdistiller's settings of this pair.
        metric=dict(_delete_=True, type='DKDLoss', beta=0.5, temperature=1.0)
    ),
)
