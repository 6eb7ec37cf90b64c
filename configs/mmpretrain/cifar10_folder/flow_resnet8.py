# Control without distillation (loss_weight=0): resnet8 with a flow shows the
# effect of the additional parameters alone.
_base_ = './kd_resnet20_resnet8.py'
model = dict(variant='online', teacher=None, flow=dict(loss_weight=0.0))
