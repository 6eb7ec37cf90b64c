# ResNet-20 distilled from ResNet-56 by FM-KT^Theta: the flow is an auxiliary
# branch beside DIST. The paper has direct_weight=0.0 and ensemble_weight=1.0.
_base_ = './fmkt_resnet56_resnet20.py'
model = dict(
    variant='theta', flow=dict(direct_weight=1.0, ensemble_weight=0.0)
)
