# DeiT-Ti distilled from Swin-L on ImageNet by DKD, without a flow.
_base_ = './fmkt_swin-large_deit-tiny.py'
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
