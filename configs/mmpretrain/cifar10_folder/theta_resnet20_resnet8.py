# resnet8 distilled from resnet20 by FM-KT^Theta: the flow is an auxiliary
# branch beside KD. The paper has direct_weight=0.0 and ensemble_weight=1.0.
_base_ = './kd_resnet20_resnet8.py'
model = dict(
    variant='theta', flow=dict(direct_weight=1.0, ensemble_weight=0.0)
)
