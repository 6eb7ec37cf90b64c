# resnet32 distilled from resnet110 by FM-KT.
_base_ = ['./resnet32.py', '../_base_/fmkt_step_accuracy.py']
model = dict(
    _base_.distiller,
    _delete_=True,
    student=_base_.model,
    teacher=dict(
        config='mmfmkt::mmpretrain/cifar100/resnet110.py',
        checkpoint='work_dirs/resnet110/epoch_240.pth',
    ),
)
