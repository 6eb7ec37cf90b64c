# shufflenet-v1 distilled from wrn-40-2 by DKD, without a flow.
_base_ = './fmkt_wrn-40-2_shufflenet-v1.py'
model = dict(
    variant='direct',
    flow=dict(
        metric=dict(_delete_=True, type='DKDLoss', beta=8.0, warmup_epochs=20)
    ),
)
