# resnet8x4 distilled from resnet32x4 by FM-KT^Theta.
_base_ = './fmkt_resnet32x4_resnet8x4.py'
model = dict(variant='theta')
