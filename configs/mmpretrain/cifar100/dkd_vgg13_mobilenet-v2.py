# mobilenet-v2 distilled from vgg13 by DKD, without a flow.
_base_ = './fmkt_vgg13_mobilenet-v2.py'
model = dict(
    variant='direct',
    flow=dict(
        metric=dict(_delete_=True, type='DKDLoss', beta=6.0, warmup_epochs=20)
    ),
)
