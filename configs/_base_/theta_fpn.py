# FM-KT^Theta on a feature pyramid: the flow only teaches, beside the metric
# itself, and the plain student is what comes home. As published, the student
# follows the mean of the flow's estimates instead (ensemble_weight=1.0).
_base_ = './fmkt_fpn.py'
distiller = dict(
    variant='theta',
    flow=dict(loss_weight=10.0, direct_weight=2.0, ensemble_weight=0.0),
)
