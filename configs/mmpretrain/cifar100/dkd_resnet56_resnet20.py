# resnet20 distilled from resnet56 by DKD, without a flow.
_base_ = './fmkt_resnet56_resnet20.py'
model = dict(
    variant='direct',
    flow=dict(
        metric=dict(_delete_=True, type='DKDLoss', beta=2.0, warmup_epochs=20)
    ),
)
