"""Detectors and configs small enough to train in a test."""

from pathlib import Path

import torch
from mmengine.config import Config

CONFIGS = Path(__file__).resolve().parent.parent / 'configs'

NORMALISE = dict(
    type='DetDataPreprocessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    pad_size_divisor=32)


def retinanet(channels=16, base_channels=8):
    """A RetinaNet R18 of some 200 thousand parameters."""
    model = Config.fromfile(packaged('_base_/models/retinanet_r50_fpn.py'))
    widths = [base_channels * 2**i for i in range(4)]
    model.merge_from_dict({
        'model.data_preprocessor': NORMALISE,
        'model.backbone': dict(
            depth=18,
            base_channels=base_channels,
            stem_channels=base_channels,
            frozen_stages=-1,
            norm_eval=False,
            init_cfg=None),
        'model.neck': dict(in_channels=widths, out_channels=channels),
        'model.bbox_head': dict(
            num_classes=6,
            in_channels=channels,
            feat_channels=channels,
            stacked_convs=1),
        'model.test_cfg.score_thr': 0.,
        'model.test_cfg.max_per_img': 20,
    })
    return model.model


def packaged(name):
    """The path of a config that MMDetection ships."""
    return Config._get_cfg_path(f'mmdet::{name}', '')[0]


def distiller(variant='fmkt', student=None, teacher=None, **kwargs):
    """The model section of a tiny distillation."""
    flow = dict(num_steps=(1, 2), inference_steps=2, loss_weight=1.)
    flow.update(kwargs.pop('flow', {}))
    model = dict(
        type='mmfmkt.DetectionDistiller',
        variant=variant,
        student=student or retinanet(),
        teacher=None if variant == 'online' and not teacher else dict(
            config=teacher or retinanet(24, 16), checkpoint=None),
        levels=(0, 1, 2),
        flow=flow)
    model.update(kwargs)
    return model


def batch(size=2, height=64, width=96, seed=0):
    """Raw images and boxes, as a dataloader gives them."""
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData
    generator = torch.Generator().manual_seed(seed)
    images, samples = [], []
    for _ in range(size):
        images.append(
            torch.randint(
                256, (3, height, width), dtype=torch.uint8,
                generator=generator))
        sample = DetDataSample(
            metainfo=dict(
                img_shape=(height, width),
                ori_shape=(height, width),
                scale_factor=(1., 1.)))
        sample.gt_instances = InstanceData(
            bboxes=torch.tensor([[8., 8., 40., 48.], [30., 10., 60., 30.]]),
            labels=torch.tensor([1, 4]))
        samples.append(sample)
    return dict(inputs=images, data_samples=samples)


def write_config(path, shapes, variant, epochs=2):
    """A run of some seconds, from the quick start's own config."""
    cfg = Config.fromfile(
        CONFIGS / 'quick_start/fmkt_retinanet_r18_shapes.py')
    cfg.model.student = retinanet()
    cfg.model.teacher = None if variant == 'online' else dict(
        config=retinanet(24, 16), checkpoint=None)
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
                shapes / 'annotations/instances_val.json')
    cfg.dump(path)
    return path
