"""Inputs with unusual config styles; the libraries' tools on configs."""

from pathlib import Path
from typing import List

from dev.soundness.data import change_json
from dev.soundness.inputs.commands import DISTILL, EXPORT, REPORT, TEST
from dev.soundness.inputs.running import (
    OWN_HOOK,
    PREEMPTED,
    RESUME_PREEMPTED,
)
from dev.soundness.trial import HERE, Command, Input, command

BASES = HERE / 'bases'
NEW_TEACHER = """
from mmengine.config import read_base

with read_base():
    from .base import *

model['backbone'].update(base_channels=16, stem_channels=16)
model['neck'].update(in_channels=[16, 32, 64, 128])
"""
NEW_STYLE = """
from mmengine.config import read_base
from mine import PreemptedHook

with read_base():
    from .base import *

train_cfg.update(max_epochs=1)
custom_hooks = [dict(type=PreemptedHook)]
"""
NEW_DISTILLATION = """
from mmengine.config import read_base
from mmfmkt.models.distillers import DetectionDistiller

with read_base():
    from .config import *

model = dict(
    type=DetectionDistiller,
    variant='theta',
    student=model,
    teacher=dict(config='{teacher}', checkpoint=None),
    levels=(0, 1, 2),
    flow=dict(num_steps=2, inference_steps=2, loss_weight=1.0))
"""
SHAPES = ('circle', 'ring', 'square', 'pentagon', 'hexagon', 'star')


def unscoped() -> str:
    """Return the RetinaNet config without a default scope."""
    text = (BASES / 'retinanet.py').read_text()
    text = text.replace("    'mmdet::_base_/default_runtime.py',\n", '')
    for name in (
        'CocoDataset',
        'LoadImageFromFile',
        'LoadAnnotations',
        'Resize',
        'RandomFlip',
        'PackDetInputs',
        'AspectRatioBatchSampler',
        'CocoMetric',
    ):
        text = text.replace(f"type='{name}'", f"type='mmdet.{name}'")
    return text.replace(
        'dict(logger=dict(interval=1))',
        "dict(logger=dict(type='LoggerHook', interval=1))",
    )


def renamed(*names: str):
    """Return a function that renames the categories of a data set."""

    def change(content: dict) -> None:
        content['categories'] = [
            dict(id=i + 1, name=name) for i, name in enumerate(names)
        ]

    return lambda root: change_json(root, change)


def plain_export(folder: Path) -> str:
    """Check that an exported student does not need mmfmkt."""
    found = list(folder.glob('*/student/student.py'))
    found += folder.glob('exported/student.py')
    if not found:
        return 'no student was exported'
    if 'mmfmkt' in found[0].read_text():
        return 'the exported student of Theta needs mmfmkt'
    return ''


def own_detection(base: str, classes: tuple) -> str:
    """Return a user config that inherits a preset, with MMDetection types."""
    return f"""
_base_ = '{base}'
metainfo = dict(classes={classes})
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(64, 64), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=(
            'img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))]
part = dict(
    type='CocoDataset',
    data_root='{{data}}/',
    metainfo=metainfo,
    ann_file='annotations/train.json',
    data_prefix=dict(img='train/'),
    filter_cfg=dict(filter_empty_gt=True),
    pipeline=[
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='Resize', scale=(64, 64), keep_ratio=True),
        dict(type='PackDetInputs')])
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        _delete_=True, type='ConcatDataset', datasets=[part, part]))
val_dataloader = dict(
    batch_size=2,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        _delete_=True,
        type='CocoDataset',
        data_root='{{data}}/',
        metainfo=metainfo,
        ann_file='annotations/val.json',
        data_prefix=dict(img='val/'),
        test_mode=True,
        pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type='VOCMetric', metric='mAP')
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=1, val_interval=1)
param_scheduler = None
"""


def train_with_options(
    tools: str, config: str, folder: str, *options: str
) -> Command:
    """Return the command with all options of MMPretrain's train.py."""
    return command(
        f'{tools}/train.py',
        config,
        *('--work-dir', f'{{folder}}/{folder}', '--no-validate'),
        *('--no-pin-memory', '--no-persistent-workers', *options),
        written_file=f'{{folder}}/{folder}/*.pth',
    )


def analyze_logs(library: str, name: str, *options: str) -> List[Command]:
    """Return the commands that analyze the log of a training."""
    tool, log = (
        f'{{{library}}}/analysis_tools/analyze_logs.py',
        f'{{{name}_log}}',
    )
    plot = f'{{folder}}/{name}.pdf'
    return [
        command(
            tool, 'cal_train_time', log, output_pattern='average iter time'
        ),
        command(
            tool, 'plot_curve', log, *options, '--out', plot, written_file=plot
        ),
    ]


def mmdet_tools(config: str, name: str) -> List[Command]:
    """Return commands of MMDetection's analysis tools."""
    tools, images = '{mmdet}/analysis_tools', f'{{folder}}/{name}_images'
    return [
        command(
            f'{tools}/get_flops.py',
            config,
            '--num-images',
            '1',
            output_pattern='Flops:',
        ),
        command(
            f'{tools}/browse_dataset.py',
            config,
            *('--output-dir', images, '--not-show'),
            written_file=f'{images}/000.png',
        ),
        *analyze_logs(
            'mmdet',
            name,
            *('--style', 'default', '--keys', 'loss_cls', 'bbox_mAP'),
        ),
    ]


def mmpretrain_tools(config: str, name: str) -> List[Command]:
    """Return commands of MMPretrain's analysis tools."""
    tool = '{mmpretrain}/analysis_tools/get_flops.py'
    return [
        command(tool, config, '--shape', '32', output_pattern='Flops:'),
        *analyze_logs('mmpretrain', name, '--keys', 'loss', 'accuracy/top1'),
    ]


INPUTS = [
    Input(
        'new-style',
        'new-style config (read_base, classes); SIGTERM, export, distill.py',
        'retinanet',
        files={
            'base.py': (BASES / 'new_style.py').read_text(),
            'parts.py': (BASES / 'parts.py').read_text(),
            'config.py': NEW_STYLE,
            'mine.py': OWN_HOOK,
        },
        teacher=NEW_TEACHER,
        distillation=NEW_DISTILLATION,
        distil=[EXPORT, PREEMPTED, RESUME_PREEMPTED, DISTILL],
        check=plain_export,
    ),
    Input(
        'no-default-scope',
        'config without default_scope, types with prefixes',
        'retinanet',
        files={'base.py': unscoped()},
        variant='theta',
        distil=[
            TEST,
            EXPORT,
            DISTILL,
            REPORT,
        ],
    ),
    Input(
        'yaml',
        'a config in YAML',
        'resnet',
        files={
            'config.yaml': """
_base_: ./base.py
model:
  head:
    topk: [1]
optim_wrapper:
  optimizer:
    lr: 1.0e-2
"""
        },
        name_of_config='config.yaml',
        teacher="""
_base_ = './config.yaml'
model = dict(
    backbone=dict(base_channels=8, stem_channels=8),
    head=dict(in_channels=64))
""",
    ),
    Input(
        'computed-settings',
        'settings that are NumPy numbers, sets and tuples of ranges',
        'resnet',
        """
import os.path as osp

import numpy as np

rates = list(np.linspace(0.1, 0.01, 3))
optim_wrapper = dict(optimizer=dict(lr=rates[0], momentum=np.float32(0.9)))
model = dict(
    head=dict(cal_acc=True, topk=tuple(range(1, 2))),
    backbone=dict(zero_init_residual=bool(1)))
train_cfg = dict(max_epochs=int(np.ceil(0.5)))
notes = dict(seen={1, 2}, of=np.int64(3), nan=float('inf') - 1 > 0)
custom_path = osp.join('a', 'b')
""",
        variant='fmkt',
    ),
    Input(
        'environment',
        'references to environment variables, the base, and the file itself',
        'retinanet',
        """
data_folder = '{{ fileDirname }}/data/'
lr = '{{$NO_SUCH_RATE:0.001}}'
optim_wrapper = dict(optimizer=dict(lr=float(lr)))
train_dataloader = dict(
    dataset=dict(
        data_root=data_folder,
        pipeline={{_base_.train_pipeline}}))
val_evaluator = dict(ann_file='{{ fileDirname }}/data/annotations/val.json')
test_evaluator = val_evaluator
work_dir = '{folder}/named'
""",
        variant='fmkt',
    ),
    Input(
        'relative-paths',
        'paths relative to the working directory of the tool',
        'retinanet',
        """
train_dataloader = dict(dataset=dict(data_root='data/'))
val_dataloader = dict(dataset=dict(data_root='./data'))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file='data/annotations/val.json')
test_evaluator = val_evaluator
""",
        distil_lines="model['teacher']['config'] = 'teacher.py'\n",
    ),
    Input(
        'mmpretrain-options',
        "all options of MMPretrain's train.py",
        'resnet',
        plain=[
            train_with_options('{mmpretrain}', '{config}', 'plain_options')
        ],
        train=[train_with_options('{tools}', '{config}', 'train_options')],
        distil=[
            train_with_options(
                '{tools}',
                '{distil}',
                'distil_options',
                '--cfg-options',
                'train_dataloader.num_workers=1',
            )
        ],
    ),
    Input(
        'tools-of-mmdetection',
        "MMDetection's get_flops, browse_dataset and analyze_logs",
        'retinanet',
        'train_cfg = dict(max_epochs=2)\n',
        variant='fmkt',
        plain=mmdet_tools('{config}', 'plain'),
        distil=mmdet_tools('{distilled}/distil.py', 'distilled'),
    ),
    Input(
        'tools-of-mmpretrain',
        "MMPretrain's get_flops and analyze_logs",
        'resnet',
        """
train_cfg = dict(max_epochs=2)
visualizer = dict(
    _delete_=True,
    type='UniversalVisualizer',
    vis_backends=[dict(type='LocalVisBackend')])
""",
        variant='fmkt',
        plain=mmpretrain_tools('{config}', 'plain'),
        distil=mmpretrain_tools('{distilled}/distil.py', 'distilled'),
    ),
    Input(
        'on-quick-start',
        "user config that inherits the quick start's, without prefixes",
        'retinanet',
        own_detection('{presets}quick_start/retinanet_r18_shapes.py', SHAPES),
        renamed(*SHAPES),
        presets=True,
        distillation=own_detection(
            'mmfmkt::quick_start/fmkt_retinanet_r18_shapes.py', SHAPES
        ),
    ),
    Input(
        'on-bccd',
        'user config that inherits that of BCCD, without prefixes',
        'retinanet',
        own_detection(
            '{presets}bccd/retinanet_r18_bccd.py',
            ('RBC', 'WBC', 'Platelets'),
        ),
        renamed('RBC', 'WBC', 'Platelets'),
        presets=True,
        distillation=own_detection(
            'mmfmkt::bccd/fmkt_retinanet_r18_bccd.py',
            ('RBC', 'WBC', 'Platelets'),
        ),
        distil_lines='model = dict(teacher=dict(checkpoint=None))\n',
    ),
    Input(
        'on-cards',
        'user config that inherits that of cards, without prefixes',
        'retinanet',
        own_detection(
            '{presets}cards/retinanet_r18w16_cards.py',
            ('nine', 'ten', 'jack', 'queen', 'king', 'ace'),
        ),
        renamed('nine', 'ten', 'jack', 'queen', 'king', 'ace'),
        presets=True,
        distillation=own_detection(
            'mmfmkt::cards/online_retinanet_r18w16_cards.py',
            ('nine', 'ten', 'jack', 'queen', 'king', 'ace'),
        ),
    ),
    Input(
        'on-cifar10-folder',
        'user config that inherits CIFAR-10 in folders, without prefixes',
        'resnet',
        """
_base_ = '{presets}mmpretrain/_base_/cifar10_folder.py'
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='ResNet_CIFAR', depth=18, base_channels=4, stem_channels=4),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=3, in_channels=32))
data_preprocessor = dict(num_classes=3)
train_dataloader = dict(
    batch_size=3,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        type='CustomDataset',
        data_root='{data}',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='RandomCrop', crop_size=32, padding=4),
            dict(type='PackInputs')]))
val_dataloader = dict(
    batch_size=3,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        type='CustomDataset', data_root='{data}', data_prefix='val'))
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type='Accuracy', topk=(1,))
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=1, val_interval=1)
param_scheduler = dict(
    _delete_=True, type='MultiStepLR', milestones=[1], by_epoch=True)
""",
        presets=True,
    ),
]
