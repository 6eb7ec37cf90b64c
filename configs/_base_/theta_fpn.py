# FM-KT^Theta on a feature pyramid: the flow only teaches, beside the metric
# itself, and the plain student is what comes home.
_base_ = './fmkt_fpn.py'
distiller = dict(
    variant='theta', flow=dict(loss_weight=10.0, direct_weight=2.0)
)
