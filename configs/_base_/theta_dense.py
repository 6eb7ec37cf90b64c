# FM-KT^Theta on a feature pyramid and on class maps: the flows only teach,
# beside the metrics themselves, and the plain student is what comes home.
_base_ = './fmkt_dense.py'
distiller = dict(
    variant='theta',
    flow=dict(loss_weight=10.0, direct_weight=2.0, ensemble_weight=0.0),
)
