# resnet32x4 on CIFAR-100, trained alone: a plain student, or a teacher.
_base_ = '../_base_/cifar100.py'
model = dict(
    type='ImageClassifier',
    _scope_='mmpretrain',
    backbone=dict(
        type='mmfmkt.CIFARResNet', depth=32, widths=(32, 64, 128, 256)
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=100,
        in_channels=256,
        loss=dict(type='CrossEntropyLoss'),
    ),
)
