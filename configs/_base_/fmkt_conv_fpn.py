# FM-KT on a feature pyramid with a full convolution, the encoder of the paper.
# It learns fastest and has a high latency (docs/cost.md, docs/bccd.md).
_base_ = './fmkt_fpn.py'
distiller = dict(flow=dict(encoder=dict(type='ConvEncoder')))
