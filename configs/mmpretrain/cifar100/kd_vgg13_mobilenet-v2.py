# mobilenet-v2 distilled from vgg13 by KD, without a flow.
_base_ = './fmkt_vgg13_mobilenet-v2.py'
model = dict(variant='direct')
