# ResNet-56 on CIFAR-100 in folders, the teacher.
_base_ = './resnet20.py'
model = dict(backbone=dict(depth=56))
