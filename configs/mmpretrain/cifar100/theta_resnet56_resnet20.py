# resnet20 under resnet56 by FM-KT^Theta.
_base_ = './fmkt_resnet56_resnet20.py'
model = dict(variant='theta')
