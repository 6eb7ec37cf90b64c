# shufflenet-v2 distilled from resnet32x4 by FM-KT^Theta.
_base_ = './fmkt_resnet32x4_shufflenet-v2.py'
model = dict(variant='theta')
