# FM-KT on BCCD with a flow that costs a deployed detector next to nothing.
_base_ = './fmkt_retinanet_r18_bccd.py'
model = dict(flow=dict(encoder=dict(type='BottleneckEncoder', reduction=2)))
# A step of the optimizer moves a layer by its fan-in: a narrow one learns
# more slowly at the same rate.
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys=dict(flows=dict(lr_mult=20.0)))
)
