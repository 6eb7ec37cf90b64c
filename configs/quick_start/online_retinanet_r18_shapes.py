# OFM-KT on the shapes of the quick start, without a teacher.
_base_ = './fmkt_retinanet_r18_shapes.py'
model = dict(variant='online', teacher=None, flow=dict(loss_weight=1.0))
