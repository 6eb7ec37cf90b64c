# ResNet-20 under ResNet-56 by FM-KT with DIST as the distillation loss.
_base_ = './kd_resnet56_resnet20.py'
model = dict(variant='fmkt', flow=dict(metric=dict(type='DISTLoss')))
