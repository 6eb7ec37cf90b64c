# vgg8 distilled from vgg13 by KD, without a flow.
_base_ = './fmkt_vgg13_vgg8.py'
model = dict(variant='direct')
