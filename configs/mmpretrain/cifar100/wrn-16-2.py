# wrn-16-2 on CIFAR-100: a baseline student or a teacher.
_base_ = './resnet20.py'
model = dict(
    backbone=dict(
        _delete_=True, type='mmfmkt.WideResNet', depth=16, widen_factor=2
    ),
    head=dict(in_channels=128),
)
