# resnet8x4 distilled from resnet32x4 by FM-KT.
_base_ = ['./resnet8x4.py', '../_base_/fmkt_step_accuracy.py']
model = dict(
    _base_.distiller,
    _delete_=True,
    student=_base_.model,
    teacher=dict(
        config='mmfmkt::mmpretrain/cifar100/resnet32x4.py',
        checkpoint='work_dirs/resnet32x4/epoch_240.pth',
    ),
)
# It adds 5 % FLOPs to the student at 32x32 pixels. ConvEncoder with K = 8
# would add 3.4 times the student's FLOPs.
model['flow'] = dict(
    model['flow'],
    encoder=dict(type='BottleneckEncoder', width=64),
    inference_steps=2,
)
