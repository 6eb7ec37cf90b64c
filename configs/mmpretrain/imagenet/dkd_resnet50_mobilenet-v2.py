# MobileNet-V2 distilled from ResNet-50 on ImageNet by DKD, without a flow.
_base_ = './fmkt_resnet50_mobilenet-v2.py'
model = dict(
    variant='direct',
    flow=dict(
        # As mdistiller's settings of this pair.
        metric=dict(_delete_=True, type='DKDLoss', beta=2.0, temperature=1.0)
    ),
)
