# resnet8 under resnet20 by FM-KT^Theta.
_base_ = './fmkt_resnet20_resnet8.py'
model = dict(variant='theta')
