# shufflenet-v1 distilled from resnet32x4 by DIST, without a flow.
_base_ = './fmkt_resnet32x4_shufflenet-v1.py'
model = dict(
    variant='direct',
    flow=dict(metric=dict(_delete_=True, type='DISTLoss', temperature=4.0)),
)
