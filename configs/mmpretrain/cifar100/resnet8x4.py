# resnet8x4 on CIFAR-100: a baseline student or a teacher.
_base_ = './resnet20.py'
model = dict(
    backbone=dict(depth=8, widths=(32, 64, 128, 256)),
    head=dict(in_channels=256),
)
