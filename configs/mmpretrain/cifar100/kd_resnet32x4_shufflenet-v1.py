# shufflenet-v1 distilled from resnet32x4 by KD, without a flow.
_base_ = './fmkt_resnet32x4_shufflenet-v1.py'
model = dict(variant='direct')
