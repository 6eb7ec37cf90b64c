# resnet8x4 distilled from resnet32x4 by KD, without a flow.
_base_ = './fmkt_resnet32x4_resnet8x4.py'
model = dict(variant='direct')
