# shufflenet-v2 on CIFAR-100: a baseline student or a teacher.
_base_ = './resnet20.py'
model = dict(
    backbone=dict(_delete_=True, type='mmfmkt.CIFARShuffleNetV2'),
    head=dict(in_channels=1024),
)
optim_wrapper = dict(optimizer=dict(lr=0.01))
