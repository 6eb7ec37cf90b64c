# DeiT-Ti distilled from Swin-L on ImageNet by DIST, without a flow.
_base_ = './fmkt_swin-large_deit-tiny.py'
model = dict(
    variant='direct',
    flow=dict(metric=dict(_delete_=True, type='DISTLoss', temperature=1.0)),
)
