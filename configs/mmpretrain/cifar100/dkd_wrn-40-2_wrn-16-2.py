# wrn-16-2 distilled from wrn-40-2 by DKD, without a flow.
_base_ = './fmkt_wrn-40-2_wrn-16-2.py'
model = dict(
    variant='direct',
    flow=dict(
        metric=dict(_delete_=True, type='DKDLoss', beta=6.0, warmup_epochs=20)
    ),
)
