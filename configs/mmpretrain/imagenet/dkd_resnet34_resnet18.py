# ResNet-18 distilled from ResNet-34 on ImageNet by DKD, without a flow.
_base_ = './fmkt_resnet34_resnet18.py'
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
