# RetinaNet R50 distilled from RetinaNet R101 by FM-KT^Theta; the deployed
# R50 is unchanged.
_base_ = '../fmkt_retinanet_r101_r50.py'
model = dict(
    variant='theta', flow=dict(direct_weight=1.0, ensemble_weight=0.0)
)
