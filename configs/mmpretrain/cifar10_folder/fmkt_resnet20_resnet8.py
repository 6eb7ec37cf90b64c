# resnet8 distilled from resnet20 by FM-KT with DIST, which is a better
# distillation loss here than KD (docs/cifar10.md).
_base_ = './kd_resnet20_resnet8.py'
model = dict(variant='fmkt', flow=dict(metric=dict(type='DISTLoss')))
