"""Other projects inherit shipped configs like those of a library."""

import inspect
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers import ROOT, run, scalars
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import (
    DATASETS,
    MODELS,
    TASK_UTILS,
    WEIGHT_INITIALIZERS,
    DefaultScope,
)
from mmengine.runner import Runner
from torch import nn

pytest.importorskip('mmdet')
pytest.importorskip('mmpretrain')

from mmpretrain.registry import BATCH_AUGMENTS  # noqa: E402

from mmfmkt.models.distillers.networks import load_model_config  # noqa: E402

CONFIGS = sorted(
    path.relative_to(ROOT / 'configs')
    for path in (ROOT / 'configs').rglob('*.py')
)
# What a preset may leave to the config that inherits it, by a key that tells.
COMPLETION = dict(
    mmdet=dict(
        model='_base_/models/retinanet_r50_fpn.py',
        train_dataloader='_base_/datasets/coco_detection.py',
        optim_wrapper='_base_/schedules/schedule_1x.py',
        default_scope='_base_/default_runtime.py',
    ),
    mmpretrain=dict(
        model='_base_/models/resnet18_cifar.py',
        train_dataloader='_base_/datasets/cifar10_bs16.py',
        optim_wrapper='_base_/schedules/cifar10_bs128.py',
        default_scope='_base_/default_runtime.py',
    ),
)
CLASSES = ('circle', 'ring', 'square', 'pentagon', 'hexagon', 'star')
HOOK = dict(mmdet='CheckInvalidLossHook', mmpretrain='EMAHook')
# Layers that are looked up in mmcv.ops by their names.
MMCV_OPS = ('nms', 'roi_layer')
# Names that only the library knows, none with a prefix: added to lists, in
# the place of a type, in the place of a whole dict.
ADDITIONS = dict(
    mmdet="""
original = _base_.train_dataloader.dataset
data = dict(data_root={data!r}, metainfo=dict(classes={classes!r}),
            ann_file='annotations/instances_train.json',
            data_prefix=dict(img='train/'))
loader = dict(batch_size=2, num_workers=0, persistent_workers=False)
train_dataloader = dict(loader, dataset=dict(
    _delete_=True, type='ConcatDataset', datasets=[
        dict(original, **data),
        dict(type='CocoDataset',
             pipeline=[*_base_.train_pipeline[:-1],
                       dict(type='PackDetInputs')], **data)]))
val_dataloader = test_dataloader = dict(loader, dataset=data)
val_evaluator = [
    dict(_base_.val_evaluator,
         ann_file={data!r} + '/annotations/instances_train.json'),
    dict(type='VOCMetric', metric='mAP')]
test_evaluator = dict(_delete_=True, type='VOCMetric', metric='mAP')
val_cfg = dict(type='TeacherStudentValLoop')
schedule = _base_.param_scheduler
param_scheduler = [
    *(schedule if isinstance(schedule, list) else [schedule]),
    dict(type='QuadraticWarmupLR', by_epoch=False, begin=0, end=1)]
custom_hooks = [*_base_.get('custom_hooks', []),
                dict(type='CheckInvalidLossHook')]
""",
    mmpretrain="""
original = _base_.train_dataloader.dataset
loader = dict(batch_size=2, num_workers=0, persistent_workers=False)
pipeline = [dict(type='LoadImageFromFile'), *original.pipeline]
train_dataloader = dict(
    loader, sampler=dict(type='RepeatAugSampler'), dataset=dict(
        _delete_=True, type='KFoldDataset', num_splits=2, dataset=dict(
            type='CustomDataset', data_root={data!r}, data_prefix='train',
            pipeline=pipeline)))
val_dataloader = test_dataloader = dict(loader, dataset=dict(
    _delete_=original.type != 'CustomDataset', type='CustomDataset',
    data_root={data!r}, data_prefix='test', pipeline=pipeline))
val_evaluator = [_base_.val_evaluator, dict(type='SingleLabelMetric')]
test_evaluator = dict(type='Accuracy')
base = _base_.optim_wrapper.optimizer.type
optim_wrapper = dict(
    optimizer=dict(type='LARS' if base == 'SGD' else 'Lamb'))
custom_hooks = [*_base_.get('custom_hooks', []),
                dict(type='EMAHook')]
""",
)


@pytest.fixture(autouse=True)
def own_default_scope():
    """Restore the default scope, which a Runner changes."""
    with DefaultScope.overwrite_default_scope('mmengine'):
        yield


@pytest.fixture(scope='module')
def pictures(tmp_path_factory):
    """Draw images of two classes in folders, for two splits."""
    root = tmp_path_factory.mktemp('pictures')
    generator = np.random.default_rng(0)
    for split in ('train', 'test'):
        for kind in ('airplane', 'ship'):
            folder = root / split / kind
            folder.mkdir(parents=True)
            for number in range(2):
                picture = generator.integers(0, 256, (32, 32, 3), np.uint8)
                cv2.imwrite(str(folder / f'{number}.png'), picture)
    return root


def additions(shapes, pictures):
    """What a child adds, by the library that it is written for."""
    data = dict(mmdet=str(shapes), mmpretrain=str(pictures))
    return {
        library: text.format(data=data[library], classes=CLASSES)
        for library, text in ADDITIONS.items()
    }


def packaged(path):
    """Return the name by which another project inherits a config."""
    # MMEngine requires a folder in the name.
    return f'mmfmkt::{path if len(path.parts) > 1 else f"_base_/../{path}"}'


def library_of(path, own):
    """Return the library of a config."""
    kind = own.get('distiller', {}).get('type', '')
    classifies = 'mmpretrain' in path.parts or 'Classification' in kind
    return 'mmpretrain' if classifies else 'mmdet'


def inherit(path, folder, additions):
    """Write a config that inherits a shipped config, and read it.

    A preset is completed by base configs of the library.
    """
    preset = '_base_' in path.parts
    own = Config.fromfile(ROOT / 'configs' / path) if preset else {}
    library = library_of(path, own)
    bases = [packaged(path)] + [
        f'{library}::{base}'
        for key, base in COMPLETION[library].items()
        if preset and key not in own
    ]
    text = f'_base_ = {bases!r}\n{additions[library]}'
    if 'distiller' in own:
        text += (
            'model = dict(_base_.distiller, _delete_=True,\n'
            '             student=_base_.model, teacher=None)\n'
        )
    child = folder / 'child.py'
    child.write_text(text)
    return Config.fromfile(child), library


def parts_of(part):
    """Yield all dicts of a config."""
    if isinstance(part, dict):
        yield part
        part = list(part.values())
    if isinstance(part, (list, tuple)):
        for value in part:
            yield from parts_of(value)


class EmptyModel(BaseModel):
    """Model with one layer."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def forward(self, *args, **kwargs):
        """Not called."""


def classes_of(part, scope):
    """Yield the class of each typed dict in a model, by the scope it is in."""
    if isinstance(part, dict):
        scope = part.get('_scope_') or scope
        if isinstance(part.get('type'), str):
            yield class_of(part['type'], scope)
        for key, value in part.items():
            if key == 'config' and isinstance(value, str):
                value = teacher_of(value)
            if key not in MMCV_OPS:
                inner = 'mmfmkt' if key == 'flow' else scope
                yield from classes_of(value, inner)
    elif isinstance(part, (list, tuple)):
        for value in part:
            yield from classes_of(value, scope)


@cache
def class_of(name, scope):
    """Return the class of a name in a scope."""
    for kind in (MODELS, TASK_UTILS, WEIGHT_INITIALIZERS):
        with kind.switch_scope_and_registry(scope) as own:
            found = own.get(name) or BATCH_AUGMENTS.get(name)
        if found is not None:
            return found
    raise AssertionError(f'{scope} has no {name}')


@cache
def teacher_of(name):
    """Return the model of a teacher's config."""
    return load_model_config(name, 'model.teacher.config')


def origin(part):
    """Return the package that defines the class of an object."""
    return type(part).__module__.partition('.')[0]


@pytest.mark.slow
@pytest.mark.parametrize('path', CONFIGS, ids=str)
def test_inheriting_configs_use_types_of_their_library_without_prefix(
    path, tmp_path, shapes, pictures
):
    cfg, library = inherit(path, tmp_path, additions(shapes, pictures))
    # MMEngine sets the scope of inherited typed dicts without a scope to the
    # inherited package.
    assert not [x for x in parts_of(cfg) if x.get('_scope_') == 'mmfmkt']
    keys = inspect.signature(Runner.__init__).parameters.keys() & cfg.keys()
    settings = {key: cfg[key] for key in keys}
    settings.update(
        model=EmptyModel(),
        launcher='none',
        work_dir=str(tmp_path),
        experiment_name=str(path),
    )
    runner = Runner(**settings)
    assert origin(runner.train_loop) == 'mmengine'
    dataset = runner.train_dataloader.dataset
    metrics = (
        *runner.val_loop.evaluator.metrics,
        *runner.test_loop.evaluator.metrics,
    )
    runner.optim_wrapper = runner.build_optim_wrapper(cfg.optim_wrapper)
    schedulers = runner.build_param_scheduler(cfg.param_scheduler)
    originals = DATASETS.build(dict(cfg.original, lazy_init=True))
    added = [dataset, originals, metrics[1], metrics[-1]]
    added += [x for x in runner.hooks if type(x).__name__ == HOOK[library]]
    if library == 'mmdet':
        added += [runner.val_loop, schedulers[-1]]
        own, listed = (
            [type(step) for step in part.pipeline.transforms]
            for part in dataset.datasets
        )
        # Both libraries have transforms of these names.
        assert own == listed
        added += dataset.datasets[1].pipeline.transforms[1:]
    else:
        sampler = runner.train_dataloader.sampler
        added += [sampler, runner.optim_wrapper.optimizer]
        assert len(next(iter(runner.train_dataloader))['inputs']) == 2
    assert {origin(part) for part in added} == {library}
    assert {origin(part) for part in metrics} <= {library, 'mmfmkt'}
    assert set(classes_of(cfg.model, cfg.default_scope))


ITERATIONS = """
train_cfg = dict(
    _delete_=True, type='IterBasedTrainLoop', max_iters=2, val_interval=2)
val_cfg = dict(_delete_=True, type='ValLoop')
"""
UNTRAINED = 'model = dict(teacher=dict(checkpoint=None))'
TRAINED = {
    'quick_start/fmkt_retinanet_r18_shapes.py': '',
    'bccd/retinanet_r18_bccd.py': """
model = dict(bbox_head=dict(num_classes=6))
""",
    'cards/fmkt_retinanet_r18w16_cards.py': UNTRAINED,
    'retinanet/fmkt_retinanet_r101_r50.py': """
small = dict(depth=18, init_cfg=None)
neck = dict(in_channels=[64, 128, 256, 512])
head = dict(num_classes=6)
model = dict(
    student=dict(backbone=small, neck=neck, bbox_head=head),
    teacher=dict(checkpoint=None, cfg_options=dict(
        backbone=small, neck=neck, bbox_head=head)))
# Not 1333x800.
steps = [dict(type='LoadImageFromFile'),
         dict(type='LoadAnnotations', with_bbox=True),
         dict(type='Resize', scale=(64, 64), keep_ratio=True),
         dict(type='PackDetInputs')]
for part in (*train_dataloader['dataset']['datasets'], data):
    part['pipeline'] = steps
""",
    'mmpretrain/_base_/cifar10_folder.py': '',
    'mmpretrain/cifar100/fmkt_resnet56_resnet20.py': UNTRAINED,
}


@pytest.mark.slow
@pytest.mark.parametrize('path', TRAINED)
def test_a_config_with_names_without_prefix_trains(
    path, tmp_path, shapes, pictures
):
    more = {
        library: text + ITERATIONS + TRAINED[path]
        for library, text in additions(shapes, pictures).items()
    }
    cfg, library = inherit(Path(path), tmp_path, more)
    work_dir = tmp_path / 'run'
    run('tools/train.py', cfg.filename, '--work-dir', work_dir)
    metric = dict(mmdet='pascal_voc/mAP', mmpretrain='single-label/recall')
    assert metric[library] in scalars(work_dir)[-1]
