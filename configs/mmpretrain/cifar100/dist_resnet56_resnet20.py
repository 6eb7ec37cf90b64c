# resnet20 distilled from resnet56 by DIST, without a flow.
_base_ = './fmkt_resnet56_resnet20.py'
model = dict(
    variant='direct',
    flow=dict(metric=dict(_delete_=True, type='DISTLoss', temperature=4.0)),
)
