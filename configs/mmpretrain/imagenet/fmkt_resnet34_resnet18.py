# ResNet-18 distilled from ResNet-34 on ImageNet by FM-KT.
_base_ = [
    'mmpretrain::resnet/resnet18_8xb32_in1k.py',
    '../_base_/fmkt_step_accuracy.py',
]
model = dict(
    _base_.distiller,
    _delete_=True,
    student=_base_.model,
    teacher=dict(
        config='mmpretrain::resnet/resnet34_8xb32_in1k.py',
        checkpoint='https://download.openmmlab.com/mmclassification/v0/resnet/'
        'resnet34_8xb32_in1k_20210831-f257d4e6.pth',
    ),
)
model['flow'] = dict(
    model['flow'],
    # The largest of mmfmkt distill's flows that adds at most 5 % FLOPs.
    encoder=dict(type='BottleneckEncoder', width=256),
    inference_steps=1,
    metric=dict(type='KDLoss', temperature=1.0),
)
val_evaluator = dict(type='mmfmkt.StepAccuracy', topk=(1, 5))
test_evaluator = val_evaluator
