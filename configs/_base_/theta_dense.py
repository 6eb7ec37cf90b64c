# FM-KT^Theta on a feature pyramid and on class maps: flows are auxiliary
# branches beside the distillation losses. The student is deployed unchanged.
_base_ = './fmkt_dense.py'
distiller = dict(
    variant='theta',
    flow=dict(loss_weight=10.0, direct_weight=2.0, ensemble_weight=0.0),
)
