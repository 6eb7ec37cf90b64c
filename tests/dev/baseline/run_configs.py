"""Data, networks and configs of the six trainings."""

import json
from pathlib import Path
from typing import Any, List

import cv2
import numpy as np
from mmengine.config import Config

ITERATIONS = 20
DETECTION, CLASSIFICATION = ('circle', 'square'), 'abcde'


def draw_data(folder: Path) -> None:
    """Write a COCO data set of shapes and a folder of classes."""
    draws = np.random.RandomState(0)
    for split, count in dict(train=16, val=4).items():
        images, annotations = [], []
        (folder / split).mkdir(parents=True)
        for index in range(count):
            image = draws.randint(0, 256, (64, 96, 3), dtype=np.uint8) // 4
            name = f'{index}.png'
            for _ in range(2):
                kind = int(draws.randint(2))
                x, y = int(draws.randint(20, 76)), int(draws.randint(20, 44))
                color = [int(v) for v in draws.randint(100, 256, 3)]
                if kind:
                    cv2.rectangle(
                        image, (x - 12, y - 12), (x + 12, y + 12), color, -1
                    )
                else:
                    cv2.circle(image, (x, y), 12, color, -1)
                annotations.append(
                    dict(
                        id=len(annotations) + 1,
                        image_id=index,
                        category_id=kind,
                        bbox=[x - 12, y - 12, 25, 25],
                        area=625,
                        iscrowd=0,
                    )
                )
            cv2.imwrite(str(folder / split / name), image)
            images.append(dict(id=index, file_name=name, width=96, height=64))
        categories = [dict(id=i, name=x) for i, x in enumerate(DETECTION)]
        (folder / f'{split}.json').write_text(
            json.dumps(
                dict(
                    images=images,
                    annotations=annotations,
                    categories=categories,
                )
            )
        )
    for split, count in dict(train=4, val=2).items():
        for number, label in enumerate(CLASSIFICATION):
            (folder / 'classes' / split / label).mkdir(parents=True)
            for index in range(count):
                image = draws.randint(0, 128, (32, 32, 3), dtype=np.uint8)
                image[..., number % 3] += np.uint8(16 * number)
                path = folder / 'classes' / split / label / f'{index}.png'
                cv2.imwrite(str(path), image)


def detector(base_channels: int) -> dict:
    """Return the config of a RetinaNet of ResNet-18."""
    path = Config._get_cfg_path(
        'mmdet::_base_/models/retinanet_r50_fpn.py', ''
    )[0]
    config = Config.fromfile(path)
    config.merge_from_dict(
        {
            'model.backbone': dict(
                depth=18,
                base_channels=base_channels,
                stem_channels=base_channels,
                frozen_stages=-1,
                norm_eval=False,
                init_cfg=None,
            ),
            'model.neck': dict(
                in_channels=[base_channels * 2**i for i in range(4)],
                out_channels=16,
            ),
            'model.bbox_head': dict(
                num_classes=len(DETECTION),
                in_channels=16,
                feat_channels=16,
                stacked_convs=1,
            ),
            'model.test_cfg.score_thr': 0.0,
            'model.test_cfg.max_per_img': 5,
        }
    )
    return config.model.to_dict()


def classifier(width: int) -> dict:
    """Return the config of a ResNet-18 for images of 32x32 pixels."""
    return dict(
        type='ImageClassifier',
        backbone=dict(
            type='ResNet_CIFAR',
            depth=18,
            base_channels=width,
            stem_channels=width,
        ),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(
            type='LinearClsHead',
            num_classes=len(CLASSIFICATION),
            in_channels=8 * width,
            loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1),
        ),
        data_preprocessor=dict(
            type='ClsDataPreprocessor',
            mean=[125.0, 123.0, 114.0],
            std=[60.0] * 3,
            num_classes=len(CLASSIFICATION),
        ),
    )


def detection_data(data: Path) -> dict:
    """Return the data sections of a detection, by iterations."""
    head = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True),
    ]

    def loader(split: str, *transforms: dict, **kwargs: Any) -> dict:
        return dict(
            batch_size=2,
            dataset=dict(
                type='CocoDataset',
                data_root=f'{data}/',
                ann_file=f'{split}.json',
                data_prefix=dict(img=f'{split}/'),
                metainfo=dict(classes=DETECTION),
                pipeline=[*head, *transforms, dict(type='PackDetInputs')],
                test_mode=split == 'val',
            ),
            **kwargs,
        )

    resize = dict(type='Resize', scale=(96, 64), keep_ratio=True)
    val = loader(
        'val',
        resize,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
    )
    evaluator = dict(
        type='CocoMetric', ann_file=f'{data}/val.json', metric='bbox'
    )
    return dict(
        default_scope='mmdet',
        train_dataloader=loader(
            'train',
            dict(type='RandomResize', scale=(96, 64), ratio_range=(0.8, 1.2)),
            dict(type='RandomFlip', prob=0.5),
            num_workers=2,
            persistent_workers=True,
            sampler=dict(type='InfiniteSampler', shuffle=True),
            batch_sampler=None,
        ),
        val_dataloader=val,
        test_dataloader=val,
        val_evaluator=evaluator,
        test_evaluator=evaluator,
        train_cfg=dict(
            type='IterBasedTrainLoop', max_iters=ITERATIONS, val_interval=10
        ),
        val_cfg=dict(type='ValLoop'),
        test_cfg=dict(type='TestLoop'),
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=1),
            checkpoint=dict(
                type='CheckpointHook', by_epoch=False, interval=10
            ),
        ),
        log_processor=dict(type='LogProcessor', by_epoch=False, window_size=1),
    )


def classification_data(data: Path) -> dict:
    """Return the data sections of a classification, by epochs."""

    def loader(split: str, *transforms: dict, **kwargs: Any) -> dict:
        return dict(
            batch_size=4,
            num_workers=0,
            dataset=dict(
                type='CustomDataset',
                data_root=f'{data}/classes',
                data_prefix=split,
                pipeline=[
                    dict(type='LoadImageFromFile'),
                    *transforms,
                    dict(type='PackInputs'),
                ],
            ),
            sampler=dict(type='DefaultSampler', shuffle=split == 'train'),
            **kwargs,
        )

    val, evaluator = loader('val'), dict(type='Accuracy', topk=(1,))
    return dict(
        default_scope='mmpretrain',
        train_dataloader=loader(
            'train',
            dict(type='RandomCrop', crop_size=32, padding=4),
            dict(type='RandomFlip', prob=0.5, direction='horizontal'),
        ),
        val_dataloader=val,
        test_dataloader=val,
        val_evaluator=evaluator,
        test_evaluator=evaluator,
        # Five batches an epoch.
        train_cfg=dict(
            by_epoch=True, max_epochs=ITERATIONS // 5, val_interval=2
        ),
        val_cfg=dict(),
        test_cfg=dict(),
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=1),
            checkpoint=dict(type='CheckpointHook', interval=2),
        ),
        log_processor=dict(type='LogProcessor', window_size=1),
    )


def optimization(**kwargs: Any) -> dict:
    """Return the sections of the optimizer and its schedule."""
    return dict(
        optim_wrapper=dict(
            type='OptimWrapper',
            optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.05),
            clip_grad=dict(max_norm=10.0),
            paramwise_cfg=dict(custom_keys=dict(flows=dict(lr_mult=2.0))),
        ),
        param_scheduler=[
            dict(
                type='LinearLR',
                start_factor=0.1,
                by_epoch=False,
                begin=0,
                end=5,
            ),
            dict(
                type='CosineAnnealingLR',
                by_epoch=False,
                begin=5,
                end=ITERATIONS,
                T_max=ITERATIONS - 5,
            ),
        ],
        randomness=dict(seed=0, deterministic=True),
        **kwargs,
    )


def model_of(name: str, folder: Path) -> dict:
    """Return the ``model`` section of a run.

    Args:
        name (str): One of ``RUNS``.
        folder (Path): Folder with configs and weights of the networks.
    """
    kind, variant = name.split('_')
    teacher = dict(
        config=str(folder / f'{kind}_teacher.py'),
        checkpoint=str(folder / f'{kind}_teacher.pth'),
    )
    flows = dict(
        detection_fmkt=dict(
            encoder=dict(type='BottleneckEncoder', width=8),
            metric=dict(type='PKDLoss'),
            num_steps=(1, 2, 4),
            inference_steps=2,
            dirac_ratio=0.5,
            direct_weight=0.5,
        ),
        detection_theta=dict(
            encoder=dict(type='ConvEncoder'),
            metric=dict(type='MSELoss'),
            num_steps=3,
        ),
        detection_direct=dict(metric=dict(type='CrossKDLoss')),
        classification_fmkt=dict(encoder=dict(type='MLPEncoder')),
        classification_theta=dict(metric=dict(type='DISTLoss')),
        classification_online=dict(num_steps=(2, 4)),
    )
    model = dict(
        type=f'mmfmkt.{kind.capitalize()}Distiller',
        student=str(folder / f'{kind}_student.py'),
        variant=variant,
        flow=dict(loss_weight=2.0, **flows[name]),
    )
    if variant != 'online':
        model['teacher'] = teacher
    if kind == 'detection':
        model.update(tap='neck', levels=(0, 1, 2))
        if variant == 'theta':
            teacher['inherit'] = ['bbox_head']
    return model


def hooks_of(name: str) -> List[dict]:
    """Return the custom hooks of a run."""
    return dict(
        detection_theta=[
            dict(
                type='mmfmkt.TransferWeightHook',
                begin=3,
                warmup=4,
                by_epoch=False,
            )
        ],
        classification_fmkt=[
            dict(type='mmfmkt.StepCountWarmupHook', warmup=2),
            dict(type='mmfmkt.FlowEMAHook', momentum=0.1),
        ],
        classification_theta=[dict(type='EMAHook', momentum=0.1)],
    ).get(name, [])
