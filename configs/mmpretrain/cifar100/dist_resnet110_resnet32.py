# resnet32 distilled from resnet110 by DIST, without a flow.
_base_ = './fmkt_resnet110_resnet32.py'
model = dict(
    variant='direct',
    flow=dict(metric=dict(_delete_=True, type='DISTLoss', temperature=4.0)),
)
