# OFM-KT on BCCD, without a teacher.
_base_ = './fmkt_retinanet_r18_bccd.py'
model = dict(variant='online', teacher=None, flow=dict(loss_weight=1.0))
optim_wrapper = dict(paramwise_cfg=None)
