# resnet8 under resnet20 by FM-KT^Theta, the flow as an auxiliary branch beside
# KD; as published: direct_weight=0.0, ensemble_weight=1.0.
_base_ = './kd_resnet20_resnet8.py'
model = dict(
    variant='theta', flow=dict(direct_weight=1.0, ensemble_weight=0.0)
)
