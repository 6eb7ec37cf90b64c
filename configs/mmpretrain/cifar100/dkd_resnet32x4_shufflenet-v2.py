# shufflenet-v2 distilled from resnet32x4 by DKD, without a flow.
_base_ = './fmkt_resnet32x4_shufflenet-v2.py'
model = dict(
    variant='direct',
    flow=dict(
        metric=dict(_delete_=True, type='DKDLoss', beta=8.0, warmup_epochs=20)
    ),
)
