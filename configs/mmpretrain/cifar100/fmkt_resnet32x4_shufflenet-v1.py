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
# The largest of mmfmkt distill's flows that adds at most 5 % FLOPs. With this
# wide student, ConvEncoder would need several times its FLOPs.
model['flow'] = dict(
    model['flow'],
    encoder=dict(type='BottleneckEncoder', width=32),
    inference_steps=2,
)
