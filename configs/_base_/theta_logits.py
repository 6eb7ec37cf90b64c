# FM-KT^Theta of a classifier: the flow is an auxiliary branch beside the
# distillation loss. The student is deployed unchanged. In the paper, the
# student instead follows the mean of the flow's estimates (direct_weight=0.0
# and ensemble_weight=1.0).
_base_ = './fmkt_logits.py'
distiller = dict(
    variant='theta',
    flow=dict(direct_weight=1.0, ensemble_weight=0.0),
)
