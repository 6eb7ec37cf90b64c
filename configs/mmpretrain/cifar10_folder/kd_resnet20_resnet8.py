# resnet8 distilled from resnet20 by KD, without a flow.
_base_ = ['./resnet8.py', '../_base_/fmkt_step_accuracy.py']
model = dict(
    _base_.distiller,
    _delete_=True,
    variant='direct',
    student=_base_.model,
    teacher=dict(
        config='mmfmkt::mmpretrain/cifar10_folder/resnet20.py',
        checkpoint='work_dirs/resnet20/epoch_20.pth',
    ),
)
