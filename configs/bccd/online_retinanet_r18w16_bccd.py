# OFM-KT on BCCD without a teacher for the student of a quarter of the width.
_base_ = './fmkt_retinanet_r18w16_bccd.py'
model = dict(variant='online', teacher=None, flow=dict(loss_weight=1.0))
optim_wrapper = dict(paramwise_cfg=None)
