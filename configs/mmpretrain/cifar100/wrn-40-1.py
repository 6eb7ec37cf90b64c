# wrn-40-1 on CIFAR-100: a baseline student or a teacher.
_base_ = './resnet20.py'
model = dict(
    backbone=dict(
        _delete_=True, type='mmfmkt.WideResNet', depth=40, widen_factor=1
    ),
)
