# mobilenet-v2 distilled from vgg13 by FM-KT.
_base_ = ['./mobilenet-v2.py', '../_base_/fmkt_step_accuracy.py']
model = dict(
    _base_.distiller,
    _delete_=True,
    student=_base_.model,
    teacher=dict(
        config='mmfmkt::mmpretrain/cifar100/vgg13.py',
        checkpoint='work_dirs/vgg13/epoch_240.pth',
    ),
)
# It adds 50 % FLOPs to the student at 32x32 pixels. ConvEncoder with K = 8
# would add 140 times the student's FLOPs.
model['flow'] = dict(
    model['flow'],
    encoder=dict(type='BottleneckEncoder', width=16),
    inference_steps=1,
)
