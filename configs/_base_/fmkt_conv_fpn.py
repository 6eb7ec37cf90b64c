# FM-KT on a feature pyramid with two full 3x3 convolutions, which have a high
# latency (docs/cost.md) and need a lower learning rate than a bottleneck
# (docs/loss_weights.md).
_base_ = './fmkt_fpn.py'
distiller = dict(flow=dict(encoder=dict(type='ConvEncoder')))
