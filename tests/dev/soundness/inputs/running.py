"""Inputs with unusual loops, hooks, optimizers, logs and start options."""

from dev.soundness.inputs.commands import DISTILL, EXPORT, TEST
from dev.soundness.trial import Input, command

OWN_HOOK = """
import os
import signal

from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class OwnHook(Hook):
    priority = 30

    def __init__(self, path=None):
        self.path = path

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        assert runner.train_loop.max_iters >= 1
        assert 'inputs' in data_batch

    def after_train(self, runner):
        if self.path:
            with open(self.path, 'w') as file:
                file.write(type(runner.model).__name__)


@HOOKS.register_module()
class PreemptedHook(Hook):
    def after_train_iter(self, runner, batch_idx, data_batch=None,
                         outputs=None):
        if os.environ.get('PREEMPTED'):
            os.kill(os.getpid(), signal.SIGTERM)
"""
OWN_LOOP = """
from mmengine.registry import LOOPS, RUNNERS
from mmengine.runner import EpochBasedTrainLoop, Runner


@LOOPS.register_module()
class OwnLoop(EpochBasedTrainLoop):
    def run_iter(self, idx, data_batch):
        super().run_iter(idx, data_batch)
        self.runner.message_hub.update_scalar('train/own', 1.0)


@RUNNERS.register_module()
class OwnRunner(Runner):
    def train(self):
        self.logger.info('A runner of its own.')
        return super().train()
"""
OWN_OPTIM = """
import torch
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.registry import (
    OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS, PARAM_SCHEDULERS)
from mmengine.optim.scheduler.lr_scheduler import LRSchedulerMixin
from mmengine.optim.scheduler.param_scheduler import _ParamScheduler


@OPTIMIZERS.register_module()
class OwnSGD(torch.optim.SGD):
    pass


@OPTIM_WRAPPERS.register_module()
class OwnWrapper(OptimWrapper):
    def update_params(self, loss, *args, **kwargs):
        super().update_params(loss * 1.0, *args, **kwargs)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class OwnConstructor(DefaultOptimWrapperConstructor):
    def add_params(self, params, module, **kwargs):
        for name, x in module.named_parameters():
            if x.requires_grad:
                mult = 0.1 if name.startswith('backbone.') else 1.0
                params.append(dict(params=[x], lr=self.base_lr * mult))
        assert any(x['lr'] < self.base_lr for x in params)


@PARAM_SCHEDULERS.register_module()
class HalvingLR(LRSchedulerMixin, _ParamScheduler):
    def _get_value(self):
        return [
            x[self.param_name] * (0.5 if self.last_step else 1.0)
            for x in self.optimizer.param_groups]
"""
RESUME = command(
    '{tools}/train.py',
    '{distil}',
    '--resume',
    '--work-dir',
    '{distilled}',
    '--cfg-options',
    'train_cfg.max_epochs=2',
    written_file='{distilled}/epoch_2.pth',
)
PREEMPTED = command(
    '{tools}/train.py',
    '{distil}',
    '--work-dir',
    '{folder}/preempted',
    code=143,
    written_file='{folder}/preempted/*.pth',
    env=dict(PREEMPTED='1'),
)
RESUME_PREEMPTED = command(
    '{tools}/train.py',
    '{distil}',
    '--resume',
    '--work-dir',
    '{folder}/preempted',
    written_file='{folder}/preempted/epoch_1.pth',
)

INPUTS = [
    Input(
        'own-hook',
        "user-defined hook by custom_imports, beside MMEngine's hooks",
        'retinanet',
        """
custom_imports = dict(imports=['mine'], allow_failed_imports=False)
custom_hooks = [
    dict(type='OwnHook', path='{folder}/own_hook'),
    dict(type='CheckInvalidLossHook', interval=1),
    dict(type='NumClassCheckHook'),
    dict(type='EmptyCacheHook', after_epoch=True),
    dict(type='PreemptedHook')]
""",
        files={'mine.py': OWN_HOOK},
        variant='fmkt',
        distil=[PREEMPTED, RESUME_PREEMPTED],
    ),
    Input(
        'prefixed-types',
        "loops, hooks and logs with the prefix 'mmengine.'",
        'retinanet',
        """
train_cfg = dict(type='mmengine.EpochBasedTrainLoop')
val_cfg = dict(type='mmengine.ValLoop')
default_hooks = dict(
    checkpoint=dict(type='mmengine.CheckpointHook'),
    logger=dict(type='mmengine.LoggerHook'))
log_processor = dict(type='mmengine.LogProcessor')
custom_imports = dict(imports=['mine'])
custom_hooks = [dict(type='mmengine.PreemptedHook')]
""",
        files={'mine.py': OWN_HOOK},
        variant='theta',
        distil=[PREEMPTED, RESUME_PREEMPTED],
    ),
    Input(
        'compile',
        "MMEngine's compile=dict(backend='eager'); export and --resume",
        'resnet',
        "compile = dict(backend='eager')\n",
        variant='fmkt',
        distil=[EXPORT, RESUME],
    ),
    Input(
        'ema',
        'EMAHook of two libraries; its checkpoint is tested',
        'resnet',
        """
custom_hooks = [
    dict(
        type='EMAHook',
        momentum=0.5,
        evaluate_on_ema=True,
        evaluate_on_origin=True,
        priority='ABOVE_NORMAL')]
""",
        variant='fmkt',
        distil=[
            TEST,
            EXPORT,
        ],
    ),
    Input(
        'accumulation',
        'gradients accumulated over three batches, clipped by value',
        'retinanet',
        """
optim_wrapper = dict(
    accumulative_counts=3,
    clip_grad=dict(clip_value=0.5, type='value'),
    optimizer=dict(_delete_=True, type='AdamW', lr=0.001))
""",
    ),
    Input(
        'spawn-workers',
        'spawned workers with the sharing strategy file_system',
        'retinanet',
        """
env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='spawn', opencv_num_threads=1),
    resource_limit=4096)
train_dataloader = dict(
    num_workers=1,
    persistent_workers=True,
    prefetch_factor=2,
    pin_memory=True,
    timeout=50)
""",
    ),
    Input(
        'iterations',
        'IterBasedTrainLoop, InfiniteSampler, checkpoints by iterations',
        'retinanet',
        """
train_cfg = dict(
    _delete_=True,
    type='IterBasedTrainLoop',
    max_iters=3,
    val_interval=2,
    val_begin=1,
    dynamic_intervals=[(2, 1)])
train_dataloader = dict(
    sampler=dict(_delete_=True, type='InfiniteSampler', shuffle=True))
default_hooks = dict(
    checkpoint=dict(
        by_epoch=False,
        interval=2,
        max_keep_ckpts=1,
        save_last=True,
        filename_tmpl='step_{}.pth'))
log_processor = dict(by_epoch=False)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=2),
    dict(
        type='MultiStepLR', by_epoch=False, milestones=[2, 3], gamma=0.1)]
""",
        variant='fmkt',
    ),
    Input(
        'by-epoch-false',
        "MMPretrain's train_cfg=dict(by_epoch=False), MultiStepMomentum",
        'resnet',
        """
train_cfg = dict(
    _delete_=True, by_epoch=False, max_iters=3, val_interval=3)
param_scheduler = [
    dict(type='ConstantLR', by_epoch=False, begin=0, end=2),
    dict(type='PolyLR', by_epoch=False, begin=2, end=3, eta_min=1e-5),
    dict(type='StepMomentum', by_epoch=False, step_size=2)]
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=3))
log_processor = dict(by_epoch=False)
""",
    ),
    Input(
        'own-loop',
        'user-defined loop and runner',
        'resnet',
        """
custom_imports = dict(imports=['mine'])
runner_type = 'OwnRunner'
train_cfg = dict(
    _delete_=True, type='OwnLoop', max_epochs=1, val_interval=1)
""",
        files={'mine.py': OWN_LOOP},
        distil=[DISTILL],
    ),
    Input(
        'own-optimizer',
        'user-defined optimizer, its wrapper, its constructor and a schedule',
        'resnet',
        """
custom_imports = dict(imports=['mine'])
optim_wrapper = dict(
    _delete_=True,
    type='OwnWrapper',
    constructor='OwnConstructor',
    optimizer=dict(type='OwnSGD', lr=0.1, momentum=0.9))
param_scheduler = dict(type='HalvingLR', by_epoch=True)
""",
        files={'mine.py': OWN_OPTIM},
        variant='fmkt',
    ),
    Input(
        'layer-decay',
        "MMPretrain's LearningRateDecayOptimWrapperConstructor",
        'resnet',
        """
model = dict(
    _delete_=True,
    type='ImageClassifier',
    backbone=dict(
        type='VisionTransformer',
        arch=dict(
            embed_dims=24,
            num_layers=2,
            num_heads=2,
            feedforward_channels=48),
        img_size=32,
        patch_size=8,
        out_type='avg_featmap',
        with_cls_token=False),
    head=dict(type='LinearClsHead', num_classes=3, in_channels=24))
optim_wrapper = dict(
    _delete_=True,
    optimizer=dict(
        type='AdamW', lr=4e-3, weight_decay=0.05, betas=(0.9, 0.999)),
    constructor='LearningRateDecayOptimWrapperConstructor',
    paramwise_cfg=dict(
        layer_decay_rate=0.75,
        norm_decay_mult=0.0,
        flat_decay_mult=0.0,
        custom_keys={'.pos_embed': dict(decay_mult=0.0)}))
""",
        teacher="_base_ = './base.py'\n",
        variant='direct',
    ),
    Input(
        'schedulers',
        'list of schedules: by epoch, by iteration, converted',
        'resnet',
        """
train_cfg = dict(max_epochs=2)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-3,
        by_epoch=True,
        end=1,
        convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        T_max=1,
        eta_min=1e-5,
        by_epoch=True,
        begin=1,
        end=2),
    dict(
        type='CosineAnnealingMomentum',
        eta_min=0.8,
        T_max=2,
        by_epoch=True,
        convert_to_iter_based=True)]
""",
        variant='fmkt',
    ),
    Input(
        'plateau',
        'ReduceOnPlateauLR and EarlyStoppingHook on the validation',
        'resnet',
        """
train_cfg = dict(max_epochs=2)
param_scheduler = dict(
    type='ReduceOnPlateauLR',
    monitor='accuracy/top1',
    rule='greater',
    patience=0)
custom_hooks = [
    dict(
        type='EarlyStoppingHook',
        monitor='accuracy/top1',
        patience=1,
        min_delta=0.0)]
""",
    ),
    Input(
        'log-windows',
        'log processor with windows and methods for single values',
        'retinanet',
        """
log_processor = dict(
    type='LogProcessor',
    window_size=2,
    by_epoch=True,
    mean_pattern=r'.*(loss|time|data_time|grad_norm).*',
    custom_cfg=[
        dict(
            data_src='loss',
            log_name='loss_least',
            method_name='min',
            window_size='epoch'),
        dict(
            data_src='loss_cls',
            log_name='loss_cls_global',
            method_name='mean',
            window_size='global')])
log_level = 'WARNING'
optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2))
""",
        variant='fmkt',
    ),
    Input(
        'hooks-of-none',
        'custom_hooks=None, default hooks that are None, empty visualizer',
        'retinanet',
        """
custom_hooks = None
default_hooks = dict(
    sampler_seed=None, logger=None, timer=None)
visualizer = None
log_processor = None
param_scheduler = None
""",
    ),
    Input(
        'deterministic',
        'randomness: deterministic, seed differs by rank',
        'resnet',
        """
randomness = dict(seed=3, deterministic=True, diff_rank_seed=True)
""",
        variant='fmkt',
    ),
    Input(
        'drawn-validation',
        'validation images, drawn by the local visualizer',
        'retinanet',
        """
default_hooks = dict(
    visualization=dict(
        type='DetVisualizationHook',
        draw=True,
        interval=1,
        score_thr=0.0,
        test_out_dir='drawn'))
visualizer = dict(
    vis_backends=[dict(type='LocalVisBackend', save_dir='{folder}/vis')],
    save_dir='{folder}/vis')
""",
        variant='fmkt',
        distil=[TEST],
    ),
    Input(
        'scaled-lr',
        '--auto-scale-lr and auto_scale_lr.enable',
        'retinanet',
        'auto_scale_lr = dict(enable=True, base_batch_size=16)\n',
        train=[
            command(
                '{tools}/train.py',
                '{config}',
                '--auto-scale-lr',
                '--work-dir',
                '{folder}/scaled',
                written_file='{folder}/scaled/*.pth',
            )
        ],
    ),
    Input(
        'checkpoint-settings',
        'CheckpointHook: without optimizer, other folder, published keys',
        'resnet',
        """
default_hooks = dict(
    checkpoint=dict(
        interval=1,
        save_optimizer=False,
        save_param_scheduler=False,
        out_dir='{folder}/elsewhere',
        published_keys=['meta', 'state_dict'],
        save_best='auto',
        save_begin=0))
""",
        without_default=('plain', 'train', 'distil'),
        plain=[
            command(
                '{here}/plain.py',
                '{config}',
                '{plain}',
                written_file='{folder}/elsewhere/plain/*.pth',
            )
        ],
        train=[
            command(
                '{tools}/train.py',
                '{config}',
                '--work-dir',
                '{train}',
                written_file='{folder}/elsewhere/train/*.pth',
            )
        ],
        distil=[
            command(
                '{tools}/train.py',
                '{distil}',
                '--work-dir',
                '{distilled}',
                written_file='{folder}/elsewhere/distilled/*.pth',
            )
        ],
    ),
    Input(
        'precise-bn',
        "MMPretrain's hooks: PreciseBNHook, SwitchRecipeHook, "
        'ClassNumCheckHook',
        'resnet',
        """
train_cfg = dict(max_epochs=2)
custom_hooks = [
    dict(type='PreciseBNHook', num_samples=6, interval=1),
    dict(type='ClassNumCheckHook'),
    dict(
        type='SwitchRecipeHook',
        schedule=[
            dict(
                action_epoch=2,
                batch_augments=dict(
                    augments=[dict(type='Mixup', alpha=0.8)]))])]
""",
        variant='fmkt',
    ),
    Input(
        'continued',
        "checkpoint of MMEngine, resumed by mmfmkt's tools",
        'resnet',
        'randomness = dict(seed=0)\n',
        train=[
            command(
                '{tools}/train.py',
                '{config}',
                '--resume',
                '{plain_pth}',
                '--work-dir',
                '{folder}/continued',
                '--cfg-options',
                'train_cfg.max_epochs=2',
                written_file='{folder}/continued/epoch_2.pth',
            )
        ],
    ),
    Input(
        'resume-of-nothing',
        'resume=True without a checkpoint',
        'retinanet',
        """
resume = True
load_from = None
experiment_name = 'mine'
""",
    ),
]
