# shufflenet-v1 distilled from resnet32x4 by FM-KT.
_base_ = ['./shufflenet-v1.py', '../_base_/fmkt_step_accuracy.py']
model = dict(
    _base_.distiller,
    _delete_=True,
    student=_base_.model,
    teacher=dict(
        config='mmfmkt::mmpretrain/cifar100/resnet32x4.py',
        checkpoint='work_dirs/resnet32x4/epoch_240.pth',
    ),
)
# It adds 16 % FLOPs to the student at 32x32 pixels. ConvEncoder with K = 8
# would add 53 times the student's FLOPs.
model['flow'] = dict(
    model['flow'],
    encoder=dict(type='BottleneckEncoder', width=32),
    inference_steps=2,
)
