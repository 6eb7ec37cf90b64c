# OFM-KT on cards, without a teacher.
_base_ = './fmkt_retinanet_r18w16_cards.py'
model = dict(variant='online', teacher=None, flow=dict(loss_weight=1.0))
optim_wrapper = dict(paramwise_cfg=None)
