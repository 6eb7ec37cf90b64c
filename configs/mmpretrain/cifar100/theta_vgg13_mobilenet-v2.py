# mobilenet-v2 distilled from vgg13 by FM-KT^Theta.
_base_ = './fmkt_vgg13_mobilenet-v2.py'
model = dict(variant='theta')
