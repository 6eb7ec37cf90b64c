# ResNet-20 distilled from ResNet-56 by KD, without a flow.
_base_ = ['./resnet20.py', '../_base_/fmkt_step_accuracy.py']
model = dict(
    _base_.distiller,
    _delete_=True,
    variant='direct',
    student=_base_.model,
    teacher=dict(
        config='mmfmkt::mmpretrain/cifar100_folder/resnet56.py',
        checkpoint='work_dirs/resnet56/epoch_40.pth',
        channels_last=True,
    ),
)
