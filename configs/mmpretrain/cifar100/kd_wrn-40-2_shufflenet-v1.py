# shufflenet-v1 distilled from wrn-40-2 by KD, without a flow.
_base_ = './fmkt_wrn-40-2_shufflenet-v1.py'
model = dict(variant='direct')
