# FM-KT on a feature pyramid with a flow that a deployed detector hardly
# notices: a bottleneck (docs/cost.md). It learns at a higher rate than a full
# convolution: docs/bccd.md has what it gave.
_base_ = './fmkt_fpn.py'
distiller = dict(
    flow=dict(encoder=dict(type='BottleneckEncoder', reduction=2))
)
