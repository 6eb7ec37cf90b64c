# RetinaNet R50 under RetinaNet R101 by FM-KT^Theta; R50 stays unchanged.
_base_ = '../fmkt_retinanet_r101_r50.py'
model = dict(
    variant='theta', flow=dict(direct_weight=1.0, ensemble_weight=0.0)
)
