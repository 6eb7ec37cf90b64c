# FM-KT on a feature pyramid with the flow of published detection code: two
# ConvNeXt blocks. For comparison only: it is the second most expensive encoder
# (docs/cost.md). The published code deploys a moving average of the flow:
#
#     custom_hooks = [dict(type='mmfmkt.FlowEMAHook', momentum=0.001)]
_base_ = './fmkt_fpn.py'
distiller = dict(flow=dict(encoder=dict(type='ConvNeXtEncoder', num_blocks=2)))
