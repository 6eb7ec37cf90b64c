# resnet32 distilled from resnet110 by FM-KT^Theta.
_base_ = './fmkt_resnet110_resnet32.py'
model = dict(variant='theta')
