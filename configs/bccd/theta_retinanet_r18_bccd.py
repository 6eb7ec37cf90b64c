# FM-KT^Theta on BCCD.
_base_ = './fmkt_retinanet_r18_bccd.py'
model = dict(
    variant='theta',
    flow=dict(loss_weight=10.0, direct_weight=2.0, ensemble_weight=0.0),
)
