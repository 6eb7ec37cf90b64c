# shufflenet-v1 distilled from wrn-40-2 by DIST, without a flow.
_base_ = './fmkt_wrn-40-2_shufflenet-v1.py'
model = dict(
    variant='direct',
    flow=dict(metric=dict(_delete_=True, type='DISTLoss', temperature=4.0)),
)
