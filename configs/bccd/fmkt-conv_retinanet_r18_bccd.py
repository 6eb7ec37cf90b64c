# FM-KT on BCCD with ConvEncoder, which needs a lower learning rate.
_base_ = './fmkt_retinanet_r18_bccd.py'
model = dict(flow=dict(encoder=dict(type='ConvEncoder')))
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys=dict(flows=dict(lr_mult=5.0)))
)
