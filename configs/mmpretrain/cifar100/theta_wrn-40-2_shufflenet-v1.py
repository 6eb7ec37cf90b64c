# shufflenet-v1 distilled from wrn-40-2 by FM-KT^Theta.
_base_ = './fmkt_wrn-40-2_shufflenet-v1.py'
model = dict(variant='theta')
