# ResNet-20 distilled from ResNet-56 by FM-KT, with the loss of DIST.
_base_ = './kd_resnet56_resnet20.py'
model = dict(variant='fmkt', flow=dict(metric=dict(type='DISTLoss')))
