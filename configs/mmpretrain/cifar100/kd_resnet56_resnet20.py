# resnet20 distilled from resnet56 by KD, without a flow.
_base_ = './fmkt_resnet56_resnet20.py'
model = dict(variant='direct')
