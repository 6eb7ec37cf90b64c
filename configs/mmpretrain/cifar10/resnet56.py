# resnet56 on CIFAR-10, the teacher.
_base_ = './resnet20.py'
model = dict(backbone=dict(depth=56))
