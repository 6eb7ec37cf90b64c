# FM-KT^Theta on a feature pyramid: the flow is an auxiliary branch beside the
# distillation loss. The student is deployed unchanged. In the paper, the
# student instead follows the mean of the flow's estimates
# (ensemble_weight=1.0).
_base_ = './fmkt_fpn.py'
distiller = dict(
    variant='theta',
    flow=dict(loss_weight=10.0, direct_weight=2.0, ensemble_weight=0.0),
)
