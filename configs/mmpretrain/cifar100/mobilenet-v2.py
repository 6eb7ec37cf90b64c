# mobilenet-v2 on CIFAR-100: a baseline student or a teacher.
_base_ = './resnet20.py'
model = dict(
    backbone=dict(
        _delete_=True, type='mmfmkt.CIFARMobileNetV2', width_mult=0.5
    ),
    head=dict(in_channels=1280),
)
optim_wrapper = dict(optimizer=dict(lr=0.01))
