# resnet8 with a flow without distillation (loss_weight=0): the control for the
# effect of the additional parameters.
_base_ = './kd_resnet20_resnet8.py'
model = dict(variant='online', teacher=None, flow=dict(loss_weight=0.0))
