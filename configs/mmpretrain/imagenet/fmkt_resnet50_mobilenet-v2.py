# MobileNet-V2 distilled from ResNet-50 on ImageNet by FM-KT.
_base_ = [
    'mmpretrain::mobilenet_v2/mobilenet-v2_8xb32_in1k.py',
    '../_base_/fmkt_step_accuracy.py',
]
model = dict(
    _base_.distiller,
    _delete_=True,
    student=_base_.model,
    teacher=dict(
        config='mmpretrain::resnet/resnet50_8xb32_in1k.py',
        checkpoint='https://download.openmmlab.com/mmclassification/v0/resnet/'
        'resnet50_8xb32_in1k_20210831-ea4938fc.pth',
    ),
)
model['flow'] = dict(
    model['flow'],
    # The largest of mmfmkt distill's flows that adds at most 5 % FLOPs.
    encoder=dict(type='BottleneckEncoder', width=64),
    inference_steps=1,
    metric=dict(type='KDLoss', temperature=1.0),
)
val_evaluator = dict(type='mmfmkt.StepAccuracy', topk=(1, 5))
test_evaluator = val_evaluator
