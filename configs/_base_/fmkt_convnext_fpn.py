# FM-KT on a feature pyramid with the flow of published detection code: two
# ConvNeXt blocks, whose moving average is deployed. For comparison only: it is
# the second most expensive encoder (docs/cost.md).
_base_ = './fmkt_fpn.py'
distiller = dict(flow=dict(encoder=dict(type='ConvNeXtEncoder', num_blocks=2)))
custom_hooks = [
    dict(type='mmfmkt.FlowEMAHook', _scope_='mmdet', momentum=0.001)
]
