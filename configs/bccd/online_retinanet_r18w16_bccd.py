# OFM-KT on BCCD without a teacher for the student of quarter width.
_base_ = './fmkt_retinanet_r18w16_bccd.py'
model = dict(variant='online', teacher=None, flow=dict(loss_weight=1.0))
optim_wrapper = dict(paramwise_cfg=None)
