# vgg8 distilled from vgg13 by FM-KT^Theta.
_base_ = './fmkt_vgg13_vgg8.py'
model = dict(variant='theta')
