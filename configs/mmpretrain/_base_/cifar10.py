# CIFAR-10 with the recipe of the distillation literature.
_base_ = [
    'mmpretrain::_base_/datasets/cifar10_bs16.py',
    'mmpretrain::_base_/default_runtime.py',
    './cifar_schedule.py',
]
train_dataloader = dict(batch_size=64)
val_dataloader = dict(batch_size=256)
test_dataloader = dict(batch_size=256)
val_evaluator = dict(type='mmfmkt.StepAccuracy', topk=(1, 5))
test_evaluator = val_evaluator
default_hooks = dict(
    checkpoint=dict(max_keep_ckpts=1, save_best='accuracy/top1')
)
