# vgg13 on CIFAR-100: a baseline student or a teacher.
_base_ = './resnet20.py'
model = dict(
    backbone=dict(_delete_=True, type='mmfmkt.CIFARVGG', depth=13),
    head=dict(in_channels=512),
)
