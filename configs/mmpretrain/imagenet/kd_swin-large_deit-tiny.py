# DeiT-Ti distilled from Swin-L on ImageNet by KD, without a flow.
_base_ = './fmkt_swin-large_deit-tiny.py'
model = dict(
    variant='direct',
    flow=dict(metric=dict(_delete_=True, type='KDLoss', temperature=1.0)),
)
