# wrn-16-2 distilled from wrn-40-2 by KD, without a flow.
_base_ = './fmkt_wrn-40-2_wrn-16-2.py'
model = dict(variant='direct')
