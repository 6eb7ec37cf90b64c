# resnet8 under resnet20 by KD, without a flow.
_base_ = './fmkt_resnet20_resnet8.py'
model = dict(variant='direct')
