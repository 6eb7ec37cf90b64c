# DeiT-Ti distilled from DeiT-III-S on ImageNet by KD, without a flow.
_base_ = './fmkt_deit3-small_deit-tiny.py'
model = dict(
    variant='direct',
    flow=dict(metric=dict(_delete_=True, type='KDLoss', temperature=1.0)),
)
