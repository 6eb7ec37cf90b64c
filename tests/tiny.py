"""Networks, batches and configs that are small enough for tests."""

from pathlib import Path

import torch
from mmengine.config import Config

CONFIGS = Path(__file__).resolve().parent.parent / 'configs'

NORMALIZE = dict(
    type='DetDataPreprocessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    pad_size_divisor=32,
)


def retinanet(channels=16, base_channels=8):
    """Return a RetinaNet R18 of about 200 thousand parameters."""
    model = Config.fromfile(packaged('_base_/models/retinanet_r50_fpn.py'))
    widths = [base_channels * 2**i for i in range(4)]
    model.merge_from_dict(
        {
            'model.data_preprocessor': NORMALIZE,
            'model.backbone': dict(
                depth=18,
                base_channels=base_channels,
                stem_channels=base_channels,
                frozen_stages=-1,
                norm_eval=False,
                init_cfg=None,
            ),
            'model.neck': dict(in_channels=widths, out_channels=channels),
            'model.bbox_head': dict(
                num_classes=6,
                in_channels=channels,
                feat_channels=channels,
                stacked_convs=1,
            ),
            'model.test_cfg.score_thr': 0.0,
            'model.test_cfg.max_per_img': 20,
        }
    )
    return model.model


def write_network(path, channels, base_channels, start_level=1):
    """Write the config of a tiny detector that trains in seconds."""
    cfg = Config.fromfile(
        Config._get_cfg_path(
            'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py', ''
        )[0]
    )
    cfg.model = retinanet(channels, base_channels)
    cfg.model.neck.start_level = start_level
    cfg.model.bbox_head.num_classes = 80
    cfg.train_cfg.update(max_epochs=1, val_interval=1)
    for split in ('train', 'val', 'test'):
        loader = cfg[f'{split}_dataloader']
        loader.update(batch_size=4, num_workers=0, persistent_workers=False)
        for step in loader.dataset.pipeline:
            if step.type == 'Resize':
                step.scale = (64, 64)
    cfg.dump(path)
    return path


def packaged(name):
    """Return the path of a config of MMDetection."""
    return Config._get_cfg_path(f'mmdet::{name}', '')[0]


def faster_rcnn():
    """Return a Faster R-CNN R18 with 16 channels after the backbone."""
    model = Config.fromfile(packaged('_base_/models/faster-rcnn_r50_fpn.py'))
    model.merge_from_dict(
        {
            'model.backbone': dict(
                depth=18,
                base_channels=8,
                stem_channels=8,
                frozen_stages=-1,
                init_cfg=None,
            ),
            'model.neck': dict(in_channels=[8, 16, 32, 64], out_channels=16),
            'model.rpn_head': dict(in_channels=16, feat_channels=16),
            'model.roi_head.bbox_head.in_channels': 16,
            'model.roi_head.bbox_head.fc_out_channels': 16,
            'model.roi_head.bbox_roi_extractor.out_channels': 16,
        }
    )
    return model.model


def detr():
    """Return a DETR R18 with one layer in encoder and decoder."""
    config = Config.fromfile(packaged('detr/detr_r50_8xb2-150e_coco.py'))
    model = config.model
    model.backbone.update(depth=18, init_cfg=None)
    model.neck.in_channels = [512]
    model.encoder.num_layers = model.decoder.num_layers = 1
    return model


def distiller(variant='fmkt', student=None, teacher=None, **kwargs):
    """Return the model section of a distillation of detectors."""
    flow = dict(num_steps=(1, 2), inference_steps=2, loss_weight=1.0)
    flow.update(kwargs.pop('flow', {}))
    model = dict(
        type='mmfmkt.DetectionDistiller',
        variant=variant,
        student=student or retinanet(),
        teacher=None
        if variant == 'online' and not teacher
        else dict(config=teacher or retinanet(24, 16), checkpoint=None),
        levels=(0, 1, 2),
        flow=flow,
    )
    model.update(kwargs)
    return model


def batch(size=2, height=64, width=96, seed=0):
    """Return raw images and boxes, as a dataloader does."""
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    generator = torch.Generator().manual_seed(seed)
    images, samples = [], []
    for _ in range(size):
        images.append(
            torch.randint(
                256, (3, height, width), dtype=torch.uint8, generator=generator
            )
        )
        sample = DetDataSample(
            metainfo=dict(
                img_shape=(height, width),
                ori_shape=(height, width),
                scale_factor=(1.0, 1.0),
            )
        )
        sample.gt_instances = InstanceData(
            bboxes=torch.tensor(
                [[8.0, 8.0, 40.0, 48.0], [30.0, 10.0, 60.0, 30.0]]
            ),
            labels=torch.tensor([1, 4]),
        )
        samples.append(sample)
    return dict(inputs=images, data_samples=samples)


def write_config(path, shapes, variant, epochs=2):
    """Write a config that trains in seconds, based on the quick start."""
    cfg = Config.fromfile(CONFIGS / 'quick_start/fmkt_retinanet_r18_shapes.py')
    cfg.model.student = retinanet()
    cfg.model.teacher = (
        None
        if variant == 'online'
        else dict(config=retinanet(24, 16), checkpoint=None)
    )
    cfg.model.variant = variant
    cfg.model.flow.num_steps = (1, 2)
    cfg.train_cfg.update(max_epochs=epochs, val_interval=epochs)
    cfg.param_scheduler.total_steps = epochs
    cfg.randomness = dict(seed=0)
    for split in ('train', 'val', 'test'):
        loader = cfg[f'{split}_dataloader']
        loader.update(batch_size=4, num_workers=0, persistent_workers=False)
        loader.dataset.data_root = str(shapes)
        if split != 'train':
            cfg[f'{split}_evaluator'].ann_file = str(
                shapes / 'annotations/instances_val.json'
            )
    cfg.dump(path)
    return path


def resnet(width=4, num_classes=5, **kwargs):
    """Return a ResNet for 32x32 images, with ``8 width`` x 4 x 4 features."""
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
            num_classes=num_classes,
            in_channels=8 * width,
            loss=dict(type='CrossEntropyLoss'),
        ),
        data_preprocessor=dict(
            mean=[125.0, 123.0, 114.0], std=[60.0] * 3, num_classes=num_classes
        ),
        **kwargs,
    )


def vit(num_classes=5):
    """Return a ViT for 32x32 images with a class token of 24 channels."""
    return dict(
        type='ImageClassifier',
        backbone=dict(
            type='VisionTransformer',
            arch=dict(
                embed_dims=24,
                num_layers=2,
                num_heads=2,
                feedforward_channels=48,
            ),
            img_size=32,
            patch_size=8,
        ),
        head=dict(
            type='VisionTransformerClsHead',
            num_classes=num_classes,
            in_channels=24,
            loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1),
        ),
        data_preprocessor=dict(
            mean=[127.5] * 3,
            std=[127.5] * 3,
            to_rgb=True,
            num_classes=num_classes,
        ),
    )


def swin(num_classes=5):
    """Return a Swin transformer for 32x32 images."""
    return dict(
        type='ImageClassifier',
        backbone=dict(
            type='SwinTransformer',
            arch=dict(
                embed_dims=8, depths=[1, 1, 1, 1], num_heads=[1, 2, 2, 2]
            ),
            img_size=32,
            patch_size=2,
            window_size=2,
        ),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(
            type='LinearClsHead', num_classes=num_classes, in_channels=64
        ),
        data_preprocessor=dict(
            mean=[125.0, 123.0, 114.0], std=[60.0] * 3, num_classes=num_classes
        ),
    )


def classification(variant='fmkt', student=None, teacher=None, **kwargs):
    """Return the model section of a distillation of classifiers."""
    if teacher is None and variant != 'online':
        teacher = resnet(8)
    flow = dict(num_steps=3, inference_steps=2)
    flow.update(kwargs.pop('flow', {}))
    return dict(
        type='mmfmkt.ClassificationDistiller',
        variant=variant,
        student=student or resnet(),
        teacher=teacher and dict(config=teacher, checkpoint=None),
        flow=flow,
        **kwargs,
    )


def image_batch(size=4, num_classes=5, seed=0):
    """Return raw 32x32 images and classes, as a dataloader does."""
    from mmpretrain.structures import DataSample

    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(
        256, (size, 3, 32, 32), dtype=torch.uint8, generator=generator
    )
    labels = torch.randint(num_classes, (size,), generator=generator)
    return dict(
        inputs=list(images),
        data_samples=[DataSample().set_gt_label(x) for x in labels],
    )
