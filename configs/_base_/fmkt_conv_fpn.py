# FM-KT on a feature pyramid with a full convolution, the encoder of the first
# publication: it learns fastest, and a deployed detector feels it
# (docs/cost.md, docs/bccd.md).
_base_ = './fmkt_fpn.py'
distiller = dict(flow=dict(encoder=dict(type='ConvEncoder')))
