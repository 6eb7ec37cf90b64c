# MobileNet-V2 distilled from ResNet-50 on ImageNet by DKD, without a flow.
_base_ = './fmkt_resnet50_mobilenet-v2.py'
model = dict(
    variant='direct',
    flow=dict(
        metric=dict(
            _delete_=True,
            type='DKDLoss',
            alpha=0.5,
            beta=0.5,
            temperature=1.0,
            warmup_epochs=5,
        )
    ),
)
