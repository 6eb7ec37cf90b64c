# DeiT-Ti distilled from DeiT-III-S on ImageNet by FM-KT.
_base_ = [
    'mmpretrain::deit/deit-tiny_4xb256_in1k.py',
    '../_base_/fmkt_step_accuracy.py',
]
model = dict(
    _base_.distiller,
    _delete_=True,
    student=_base_.model,
    teacher=dict(
        config='mmpretrain::deit3/deit3-small-p16_64xb64_in1k.py',
        checkpoint='https://download.openmmlab.com/mmclassification/v0/deit3/'
        'deit3-small-p16_3rdparty_in1k_20221008-0f7c70cf.pth',
    ),
)
model['flow'] = dict(
    model['flow'],
    # The class token is a vector, not a map.
    encoder=dict(type='MLPEncoder'),
    metric=dict(type='DISTLoss', temperature=1.0),
)
val_evaluator = dict(type='mmfmkt.StepAccuracy', topk=(1, 5))
test_evaluator = val_evaluator
