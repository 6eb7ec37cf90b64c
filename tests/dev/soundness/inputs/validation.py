"""Inputs with unusual data set wrappers, evaluators and validation."""

from dev.soundness.inputs.commands import CHECK_TEACHER, TEST
from dev.soundness.trial import Input, command

OWN_METRIC = """
import multiprocessing
import time

from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS


def square(x):
    return x * x


@METRICS.register_module()
class PooledMetric(BaseMetric):
    default_prefix = 'pooled'

    def process(self, data_batch, data_samples):
        self.results.append(len(data_samples))

    def compute_metrics(self, results):
        with multiprocessing.Pool(2) as pool:
            # What takes too long is ended with the pool.
            pool.apply_async(time.sleep, (600,))
            return dict(squares=pool.apply(square, (len(results),)))
"""
TENSOR_METRIC = """
import torch
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS


@METRICS.register_module()
class OddMetric(BaseMetric):
    default_prefix = 'odd'

    def process(self, data_batch, data_samples):
        self.results.append(len(data_samples))

    def compute_metrics(self, results):
        return dict(
            tensor=torch.tensor(0.5),
            count=sum(results),
            name='a word',
            rows=[1.0, 2.0],
            nothing=None)
"""
MOSAIC = """
train_pipeline = [
    dict(type='Mosaic', img_scale=(64, 64), pad_val=114.0),
    dict(
        type='RandomAffine',
        scaling_ratio_range=(0.5, 1.5),
        border=(-32, -32)),
    dict(
        type='MixUp',
        img_scale=(64, 64),
        ratio_range=(0.8, 1.6),
        pad_val=114.0),
    dict(type='YOLOXHSVRandomAug'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='Resize', scale=(64, 64), keep_ratio=True),
    dict(
        type='Pad',
        pad_to_square=True,
        pad_val=dict(img=(114.0, 114.0, 114.0))),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(1, 1), keep_empty=False),
    dict(type='PackDetInputs')]
train_dataloader = dict(
    batch_sampler=None,
    dataset=dict(
        _delete_=True,
        type='MultiImageMixDataset',
        dataset=dict(
            type='CocoDataset',
            data_root=_base_.data_root,
            metainfo=_base_.metainfo,
            ann_file='annotations/train.json',
            data_prefix=dict(img='train/'),
            pipeline=[
                dict(type='LoadImageFromFile'),
                dict(type='LoadAnnotations', with_bbox=True)],
            filter_cfg=dict(filter_empty_gt=False, min_size=32)),
        pipeline=train_pipeline))
"""

INPUTS = [
    Input(
        'repeat-of-concat',
        'RepeatDataset of ConcatDataset',
        'retinanet',
        """
part = dict(
    type='CocoDataset',
    data_root=_base_.data_root,
    metainfo=_base_.metainfo,
    ann_file='annotations/train.json',
    data_prefix=dict(img='train/'),
    pipeline=_base_.train_pipeline)
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='RepeatDataset',
        times=2,
        dataset=dict(
            type='ConcatDataset',
            ignore_keys=['palette'],
            datasets=[
                part,
                dict(
                    part,
                    ann_file='annotations/val.json',
                    data_prefix=dict(img='val/'))])))
""",
    ),
    Input(
        'class-balanced',
        'ClassBalancedDataset of a classifier',
        'resnet',
        """
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='ClassBalancedDataset',
        oversample_thr=0.5,
        dataset=dict(
            type='CustomDataset',
            data_root=_base_.data_root,
            data_prefix='train',
            pipeline=_base_.train_pipeline)))
""",
    ),
    Input(
        'k-fold',
        'KFoldDataset for training and for validation',
        'resnet',
        """
inner = dict(
    type='CustomDataset',
    data_root=_base_.data_root,
    data_prefix='train',
    pipeline=_base_.train_pipeline)
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='KFoldDataset',
        dataset=inner,
        fold=0,
        num_splits=2,
        seed=1,
        test_mode=False))
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='KFoldDataset',
        dataset=inner,
        fold=0,
        num_splits=2,
        seed=1,
        test_mode=True))
test_dataloader = val_dataloader
""",
    ),
    Input(
        'mosaic',
        'MultiImageMixDataset: Mosaic, MixUp; the mode switch of YOLOX',
        'retinanet',
        MOSAIC
        + """
train_cfg = dict(max_epochs=2)
custom_hooks = [
    dict(type='YOLOXModeSwitchHook', num_last_epochs=1, priority=48),
    dict(type='SyncNormHook', priority=48)]
model = dict(bbox_head=dict(use_l1=False, type='OwnHead'))
custom_imports = dict(imports=['mine'])
""",
        files={
            'mine.py': """
from mmdet.models import RetinaHead
from mmdet.registry import MODELS


@MODELS.register_module()
class OwnHead(RetinaHead):
    def __init__(self, *args, use_l1, **kwargs):
        super().__init__(*args, **kwargs)
        self.use_l1 = use_l1
"""
        },
        variant='fmkt',
    ),
    Input(
        'pipeline-switch',
        'PipelineSwitchHook and CachedMosaic, with persistent workers',
        'retinanet',
        """
train_pipeline = _base_.train_pipeline
train_pipeline.insert(
    2,
    dict(
        type='CachedMosaic',
        img_scale=(64, 64),
        pad_val=114.0,
        max_cached_images=4,
        random_pop=False))
train_dataloader = dict(
    num_workers=2,
    persistent_workers=True,
    batch_sampler=None,
    dataset=dict(pipeline=train_pipeline))
train_cfg = dict(max_epochs=2, dynamic_intervals=[(1, 1)])
custom_hooks = [
    dict(
        type='PipelineSwitchHook',
        switch_epoch=1,
        switch_pipeline=_base_.test_pipeline)]
""",
    ),
    Input(
        'voc-metric',
        'VOCMetric, which uses a process pool, on CocoDataset',
        'retinanet',
        """
val_evaluator = dict(
    _delete_=True, type='mmdet.VOCMetric', metric='mAP', eval_mode='11points')
test_evaluator = val_evaluator
""",
        variant='fmkt',
        distil=[
            TEST,
        ],
    ),
    Input(
        'own-pool',
        'user-defined metric whose process pool is ended early',
        'resnet',
        """
custom_imports = dict(imports=['mine'])
val_evaluator = [dict(type='Accuracy'), dict(type='PooledMetric')]
test_evaluator = val_evaluator
""",
        files={'mine.py': OWN_METRIC},
    ),
    Input(
        'own-results',
        'user-defined metric that returns tensors, strings, lists and None',
        'resnet',
        """
custom_imports = dict(imports=['mine'])
val_evaluator = [dict(type='OddMetric'), dict(type='Accuracy')]
test_evaluator = val_evaluator
""",
        files={'mine.py': TENSOR_METRIC},
        distil=[CHECK_TEACHER],
    ),
    Input(
        'several-evaluators',
        'classwise CocoMetric without ann_file beside VOCMetric, save_best',
        'retinanet',
        """
val_evaluator = [
    dict(type='CocoMetric', classwise=True, metric='bbox'),
    dict(type='VOCMetric', metric='mAP')]
test_evaluator = val_evaluator
default_hooks = dict(
    checkpoint=dict(save_best='coco/bbox_mAP', rule='greater'))
test_pipeline = _base_.test_pipeline
test_pipeline[-1] = dict(
    type='PackDetInputs',
    meta_keys=(
        'img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor',
        'instances'))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
""",
    ),
    Input(
        'evaluator-with-a-type',
        'Evaluator(metrics=[...]) with a prefix, and dumped results',
        'retinanet',
        """
val_evaluator = dict(
    _delete_=True,
    type='Evaluator',
    metrics=[
        dict(
            type='CocoMetric',
            ann_file='{data}/annotations/val.json',
            prefix='mine',
            outfile_prefix='{folder}/results',
            proposal_nums=(1, 10, 100),
            metric_items=['mAP', 'mAP_50'])])
test_evaluator = val_evaluator
""",
    ),
    Input(
        'no-validation',
        'val_cfg=None, val_dataloader=None, val_evaluator=None',
        'retinanet',
        """
val_cfg = None
val_dataloader = None
val_evaluator = None
test_cfg = None
test_dataloader = None
test_evaluator = None
""",
        variant='theta',
    ),
    Input(
        'only-training',
        'config without keys of validation and testing',
        'resnet',
        """
_base_ = 'mmpretrain::_base_/default_runtime.py'
data_preprocessor = dict(
    num_classes=3, mean=[125.0] * 3, std=[60.0] * 3, to_rgb=True)
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='ResNet_CIFAR', depth=18, base_channels=4, stem_channels=4),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=3, in_channels=32))
train_dataloader = dict(
    batch_size=3,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='CustomDataset',
        data_prefix='{data}/train',
        pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')]))
train_cfg = dict(by_epoch=True, max_epochs=1)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))
""",
    ),
    Input(
        'average-none',
        'SingleLabelMetric(average=None) and ConfusionMatrix, whose results '
        'are tensors; --check-teacher',
        'resnet',
        """
val_evaluator = [
    dict(type='SingleLabelMetric', average=None),
    dict(type='ConfusionMatrix', num_classes=3)]
test_evaluator = val_evaluator
""",
        variant='fmkt',
        distil=[CHECK_TEACHER],
    ),
    Input(
        'test-options',
        'tools/test.py with --out, --show-dir and --tta, TTA in the config',
        'retinanet',
        """
tta_model = dict(
    type='DetTTAModel',
    tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=10))
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [
                dict(type='Resize', scale=(64, 64), keep_ratio=True),
                dict(type='Resize', scale=(96, 96), keep_ratio=True)],
            [
                dict(type='RandomFlip', prob=1.0),
                dict(type='RandomFlip', prob=0.0)],
            [dict(type='LoadAnnotations', with_bbox=True)],
            [
                dict(
                    type='PackDetInputs',
                    meta_keys=(
                        'img_id', 'img_path', 'ori_shape', 'img_shape',
                        'scale_factor', 'flip', 'flip_direction'))]])]
""",
        plain=[
            command(
                '{mmdet}/test.py',
                '{config}',
                '{plain_pth}',
                '--tta',
                '--out',
                '{folder}/plain.pkl',
                written_file='{folder}/plain.pkl',
            )
        ],
        train=[
            command(
                '{tools}/test.py',
                '{config}',
                '{train_pth}',
                '--tta',
                '--out',
                '{folder}/train.pkl',
                written_file='{folder}/train.pkl',
            )
        ],
        distil=[
            command(
                '{tools}/test.py',
                '{distil}',
                '{distilled_pth}',
                '--tta',
                '--out',
                '{folder}/distil.pkl',
                written_file='{folder}/distil.pkl',
            ),
            command(
                '{tools}/test.py',
                '{distil}',
                '{distilled_pth}',
                '--show-dir',
                'shown',
            ),
        ],
    ),
]
