"""Inputs with unusual bit depths, channels and sizes of images."""

import json
from pathlib import Path

import cv2
import numpy as np
from dev.soundness.data import CLASSES, change_images, draw_shapes
from dev.soundness.inputs.commands import (
    CHECK_TEACHER,
    DISTILL,
    EXPORT,
    ONNX,
    REPORT,
)
from dev.soundness.trial import CLASSIFIER_TEACHER, Input

# Backbones of teachers that record statistics of their input.
RECORDING = """
import json

from mmdet.models import ResNet as DetResNet
from mmdet.registry import MODELS as DET
from mmpretrain.models import ResNet_CIFAR
from mmpretrain.registry import MODELS as PRE


def note(x):
    with open('{folder}/seen.jsonl', 'a') as file:
        print(
            json.dumps([list(x.shape), float(x.mean()), float(x.std())]),
            file=file)


@DET.register_module()
class RecordingDetResNet(DetResNet):
    def forward(self, x):
        note(x)
        return super().forward(x)


@PRE.register_module()
class RecordingResNet(ResNet_CIFAR):
    def forward(self, x):
        note(x)
        return super().forward(x)
"""


def loader(settings: str) -> str:
    """Return pipelines with other settings of the image loader."""
    step = f"dict(type='LoadImageFromFile', {settings})"
    return f"""
train_pipeline = _base_.train_pipeline
test_pipeline = _base_.test_pipeline
train_pipeline[0] = test_pipeline[0] = {step}
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
"""


def gray(root: Path) -> None:
    """Make images grayscale."""
    change_images(root, lambda x: cv2.cvtColor(x, cv2.COLOR_BGR2GRAY))


def deep(root: Path) -> None:
    """Make 16-bit images."""
    change_images(root, lambda x: x.astype(np.uint16) * 16)


def with_alpha(root: Path) -> None:
    """Add a fourth channel."""
    change_images(root, lambda x: np.dstack([x, x[..., 0] // 2 + 60]))


def rotated(root: Path) -> None:
    """Write JPEG files with an EXIF orientation."""
    from PIL import Image

    for index, path in enumerate(sorted(root.rglob('*.png'))):
        image = Image.open(path).convert('RGB').resize((48, 32))
        exif = Image.Exif()
        exif[0x0112] = (6, 8, 3)[index % 3]
        image.save(path.with_suffix('.jpg'), exif=exif)
        path.unlink()


def of_several_sizes(root: Path) -> None:
    """Give each image a different size."""
    for index, path in enumerate(sorted(root.rglob('*.png'))):
        size = 32 + 4 * index, 40 + 3 * index
        cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path)), size))


def one_pixel(root: Path) -> None:
    """Add images of 8x8 pixels."""
    for name in CLASSES:
        image, _ = draw_shapes(3, [0], 8, 8)
        cv2.imwrite(str(root / 'train' / name / 'small.png'), image)


def check_teacher_input(folder: Path) -> str:
    """Check that the teacher's input was normalized."""
    lines = (folder / 'seen.jsonl').read_text().splitlines()
    seen = [json.loads(x) for x in lines]
    # Dummy inputs have other sizes.
    seen = [x for x in seen if 0.0 < x[2] and x[0][-2:] == [64, 64]]
    if not seen:
        return 'the teacher had no input'
    shape, mean, std = seen[-1]
    if not (abs(mean) < 1 and 0.2 < std < 4):
        return (
            f'input of the teacher is not normalized: mean {mean:.3g}, '
            f'deviation {std:.3g}'
        )
    return ''


INPUTS = [
    Input(
        'gray',
        'student and images of one channel',
        'resnet',
        loader("color_type='grayscale'")
        + """
model = dict(backbone=dict(in_channels=1))
data_preprocessor = dict(mean=[120.0], std=[60.0], to_rgb=False)
""",
        gray,
        variant='fmkt',
        distil=[CHECK_TEACHER, DISTILL, ONNX, REPORT, EXPORT],
    ),
    Input(
        'gray-detector',
        'detector and images of one channel',
        'retinanet',
        loader("color_type='grayscale'")
        + """
model = dict(
    backbone=dict(in_channels=1),
    data_preprocessor=dict(mean=[120.0], std=[60.0], bgr_to_rgb=False))
""",
        gray,
        variant='fmkt',
        distil=[CHECK_TEACHER, DISTILL, ONNX, REPORT, EXPORT],
    ),
    Input(
        'gray-under-color',
        'student of one channel, teacher of three',
        'resnet',
        loader("color_type='grayscale'")
        + """
model = dict(backbone=dict(in_channels=1))
data_preprocessor = dict(mean=[120.0], std=[60.0], to_rgb=False)
""",
        gray,
        teacher=CLASSIFIER_TEACHER,
    ),
    Input(
        'gray-read-as-color',
        'images of one channel, which the loader reads as three',
        'retinanet',
        prepare=gray,
    ),
    Input(
        '16-bit',
        '16-bit images, read without conversion',
        'retinanet',
        loader("color_type='unchanged', to_float32=True")
        + """
model = dict(
    data_preprocessor=dict(
        mean=[2000.0, 2000.0, 2000.0], std=[900.0, 900.0, 900.0]))
""",
        deep,
    ),
    Input(
        'four-channels',
        'student and images of four channels',
        'retinanet',
        loader("color_type='unchanged'")
        + """
model = dict(
    backbone=dict(in_channels=4),
    data_preprocessor=dict(mean=[120.0], std=[60.0], bgr_to_rgb=False))
""",
        with_alpha,
        variant='fmkt',
        distil=[DISTILL, ONNX, REPORT, EXPORT],
    ),
    Input(
        'four-channels-classifier',
        'classifier of four channels, teacher of three',
        'resnet',
        loader("color_type='unchanged'")
        + """
model = dict(backbone=dict(in_channels=4))
data_preprocessor = dict(
    mean=[120.0, 120.0, 120.0, 100.0],
    std=[60.0, 60.0, 60.0, 50.0],
    to_rgb=False)
""",
        with_alpha,
        teacher=CLASSIFIER_TEACHER,
    ),
    Input(
        'exif',
        'JPEG files with an EXIF orientation, which the loader ignores',
        'resnet',
        """
train_pipeline = [
    dict(
        type='LoadImageFromFile',
        color_type='color_ignore_orientation',
        imdecode_backend='pillow'),
    dict(type='RandomResizedCrop', scale=32),
    dict(type='PackInputs')]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=40, edge='short'),
    dict(type='CenterCrop', crop_size=32),
    dict(type='PackInputs')]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
""",
        rotated,
    ),
    Input(
        'one-image-batches',
        'batches of one image of any size, with default_collate',
        'resnet',
        """
train_dataloader = dict(batch_size=1)
val_dataloader = dict(batch_size=1)
test_dataloader = val_dataloader
model = dict(
    backbone=dict(norm_cfg=dict(type='GN', num_groups=2)))
""",
        of_several_sizes,
        variant='fmkt',
    ),
    Input(
        'several-sizes',
        'batches of images of several sizes, padded by the preprocessor',
        'resnet',
        """
train_dataloader = dict(collate_fn=dict(type='pseudo_collate'))
val_dataloader = dict(collate_fn=dict(type='pseudo_collate'))
test_dataloader = val_dataloader
data_preprocessor = dict(pad_size_divisor=16, pad_value=3)
""",
        of_several_sizes,
    ),
    Input(
        'tiny-pictures',
        'images of 8x8 pixels among those of 32x32',
        'resnet',
        """
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=32),
    dict(type='AutoAugment', policies='imagenet'),
    dict(type='PackInputs')]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
""",
        one_pixel,
    ),
    Input(
        'multi-scale',
        'RandomChoiceResize, RandomCrop and BatchSyncRandomResize',
        'retinanet',
        """
train_pipeline = [
    dict(type='LoadImageFromFile', to_float32=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='RandomChoiceResize',
        scales=[(48, 96), (64, 128), (96, 96)],
        keep_ratio=True),
    dict(
        type='RandomCrop',
        crop_type='relative_range',
        crop_size=(0.7, 0.7),
        allow_negative_crop=True),
    dict(type='PhotoMetricDistortion'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs')]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
model = dict(
    data_preprocessor=dict(
        batch_augments=[
            dict(
                type='BatchSyncRandomResize',
                random_size_range=(64, 128),
                size_divisor=32,
                interval=1)]))
""",
    ),
    Input(
        'random-resize',
        'RandomResize, BatchFixedSizePad and no divisor',
        'mask_rcnn',
        """
train_pipeline = _base_.train_pipeline
train_pipeline[2] = dict(
    type='RandomResize',
    scale=(64, 64),
    ratio_range=(0.5, 1.5),
    keep_ratio=False)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
model = dict(
    data_preprocessor=dict(
        pad_size_divisor=1,
        batch_augments=[
            dict(
                type='BatchFixedSizePad',
                size=(96, 96),
                img_pad_value=0,
                pad_mask=True,
                mask_pad_value=0)]))
""",
    ),
    Input(
        'normalized-in-pipeline',
        'student normalized in its pipeline, teacher in its preprocessor: '
        'input of the teacher',
        'retinanet',
        """
normalize = dict(
    type='Normalize',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=True)
train_pipeline = _base_.train_pipeline
train_pipeline.insert(-1, normalize)
test_pipeline = _base_.test_pipeline
test_pipeline.insert(-1, normalize)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
model = dict(
    data_preprocessor=dict(mean=None, std=None, bgr_to_rgb=False))
""",
        files={'mine.py': RECORDING},
        teacher="""
_base_ = './base.py'
custom_imports = dict(imports=['mine'])
model = dict(
    backbone=dict(
        type='RecordingDetResNet', base_channels=16, stem_channels=16),
    neck=dict(in_channels=[16, 32, 64, 128]))
""",
        distil_lines="custom_imports = dict(imports=['mine'])\n",
        check=check_teacher_input,
    ),
    Input(
        'normalized-classifier',
        'classifier normalized in its pipeline, teacher in its preprocessor: '
        'input of the teacher',
        'resnet',
        """
normalize = dict(
    type='Normalize',
    mean=[125.0, 123.0, 114.0],
    std=[60.0, 60.0, 60.0],
    to_rgb=True)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=64),
    normalize,
    dict(type='PackInputs')]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=train_pipeline))
test_dataloader = val_dataloader
data_preprocessor = dict(_delete_=True, num_classes=3)
""",
        files={'mine.py': RECORDING},
        teacher="""
_base_ = './base.py'
custom_imports = dict(imports=['mine'])
model = dict(
    backbone=dict(
        type='RecordingResNet', base_channels=8, stem_channels=8),
    head=dict(in_channels=64))
""",
        distil_lines="custom_imports = dict(imports=['mine'])\n",
        check=check_teacher_input,
    ),
]
