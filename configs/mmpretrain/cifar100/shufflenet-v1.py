# shufflenet-v1 on CIFAR-100: a baseline student or a teacher.
_base_ = './resnet20.py'
model = dict(
    backbone=dict(_delete_=True, type='mmfmkt.CIFARShuffleNetV1'),
    head=dict(in_channels=960),
)
optim_wrapper = dict(optimizer=dict(lr=0.01))
