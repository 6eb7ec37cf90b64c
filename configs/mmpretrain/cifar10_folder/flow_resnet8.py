# resnet8 with a flow that nothing teaches: the control for what the flow's
# parameters do by themselves.
_base_ = './kd_resnet20_resnet8.py'
model = dict(variant='online', teacher=None, flow=dict(loss_weight=0.0))
