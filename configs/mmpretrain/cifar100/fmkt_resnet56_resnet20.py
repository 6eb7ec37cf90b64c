# resnet20 distilled from resnet56 by FM-KT.
_base_ = ['./resnet20.py', '../_base_/fmkt_step_accuracy.py']
model = dict(
    _base_.distiller,
    _delete_=True,
    student=_base_.model,
    teacher=dict(
        config='mmfmkt::mmpretrain/cifar100/resnet56.py',
        checkpoint='work_dirs/resnet56/epoch_240.pth',
    ),
)
