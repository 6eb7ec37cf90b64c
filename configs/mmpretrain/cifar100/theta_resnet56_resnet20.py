# resnet20 distilled from resnet56 by FM-KT^Theta.
_base_ = './fmkt_resnet56_resnet20.py'
model = dict(variant='theta')
