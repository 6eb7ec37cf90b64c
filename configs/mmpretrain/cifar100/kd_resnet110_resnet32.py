# resnet32 distilled from resnet110 by KD, without a flow.
_base_ = './fmkt_resnet110_resnet32.py'
model = dict(variant='direct')
