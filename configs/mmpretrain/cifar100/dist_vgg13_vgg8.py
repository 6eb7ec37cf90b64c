# vgg8 distilled from vgg13 by DIST, without a flow.
_base_ = './fmkt_vgg13_vgg8.py'
model = dict(
    variant='direct',
    flow=dict(metric=dict(_delete_=True, type='DISTLoss', temperature=4.0)),
)
