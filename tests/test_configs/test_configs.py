"""Shipped configs train, and presets complete configs of the libraries.

test_inheritance.py tests that each can be inherited.
"""

import re
from copy import deepcopy
from functools import cache

import pytest
import torch
from helpers import ROOT
from mmengine.config import Config
from mmengine.registry import DefaultScope

import mmfmkt  # noqa: F401

pytest.importorskip('mmdet')

from mmfmkt.registry import MODELS  # noqa: E402

CONFIGS = sorted(
    path.relative_to(ROOT / 'configs')
    for path in (ROOT / 'configs').rglob('*.py')
    if '_base_' not in path.parts
)
CLASSIFIERS = [path for path in CONFIGS if 'mmpretrain' in path.parts]
DISTILLATIONS = [
    path
    for path in CONFIGS
    if path not in CLASSIFIERS and re.match('fmkt|theta|pkd', path.name)
]
# Configs of other methods, with the FM-KT config of the same pair.
OTHER_METHODS = {
    path: path.with_name(re.sub('^[a-z]+', 'fmkt', path.name))
    for path in CLASSIFIERS
    if re.match('(kd|dkd|dist|theta)_', path.name)
}
TRAINED = [
    path
    for path in CLASSIFIERS
    if path not in OTHER_METHODS
    or re.search(
        'resnet56_resnet20|resnet34_resnet18|resnet20_resnet8', path.name
    )
]


@cache
def read(path):
    """Return a shipped config, which callers must not change."""
    return Config.fromfile(ROOT / 'configs' / path)


@pytest.mark.parametrize(
    'student',
    (
        'rtmdet/rtmdet_tiny_8xb32-300e_coco.py',
        'yolox/yolox_tiny_8xb8-300e_coco.py',
        'detr/detr_r50_8xb2-150e_coco.py',
    ),
)
def test_a_preset_is_inherited_beside_configs_with_hooks_and_imports(
    student, tmp_path
):
    path = tmp_path / 'config.py'
    path.write_text(f"""
_base_ = ['mmdet::{student}', 'mmfmkt::_base_/theta_fpn.py']
model = dict(_base_.distiller, _delete_=True, student=_base_.model,
             teacher=dict(config='mmdet::{student}', checkpoint=None),
             levels=None)
""")
    model = MODELS.build(Config.fromfile(path).model)
    assert len(model.flows['neck']) > 0


def model_of(path):
    """Build the model of a config, with random weights of the teacher."""
    cfg = deepcopy(read(path))
    network = cfg.model.get('student', cfg.model)
    network.backbone.init_cfg = None
    if cfg.model.get('teacher'):
        trained = ('https://', 'work_dirs/')
        checkpoint = cfg.model.teacher.checkpoint
        assert 'quick_start' in path.parts or checkpoint.startswith(trained)
        cfg.model.teacher.checkpoint = None
    if 'data_preprocessor' in cfg:
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        return MODELS.build(cfg.model)


@pytest.mark.slow
@pytest.mark.parametrize('path', DISTILLATIONS, ids=str)
def test_detection_configs_train_an_iteration_on_random_images(path):
    model = model_of(path)
    from mmdet.testing import demo_mm_inputs

    # Deformable kernels do not fit into maps of smaller images.
    side = 128 if 'dconv' in path.name else 64
    # Each of the students has three classes or more.
    data = model.data_preprocessor(
        demo_mm_inputs(2, [(3, side, side)] * 2, num_classes=3), True
    )
    total, log = model.parse_losses(model(**data, mode='loss'))
    total.backward()
    assert torch.isfinite(total)
    assert (
        sum(name.endswith(('loss_flow', 'loss_direct')) for name in log) >= 4
    )


@pytest.mark.parametrize('path', OTHER_METHODS, ids=str)
def test_other_methods_have_the_networks_and_the_recipe_of_fmkt(path):
    own, fmkt = read(path), read(OTHER_METHODS[path])
    assert own.model.student == fmkt.model.student
    assert own.model.teacher == fmkt.model.teacher
    assert (own.model.variant, own.model.flow) != (
        fmkt.model.variant,
        fmkt.model.flow,
    )
    for key in ('train_dataloader', 'optim_wrapper', 'param_scheduler'):
        assert own[key] == fmkt[key]


def test_only_configs_that_evaluate_further_steps_sample_them():
    for path in sorted((ROOT / 'configs' / '_base_').glob('*.py')):
        distiller = Config.fromfile(path).get('distiller') or {}
        assert 'report_steps' not in distiller
    for path in CLASSIFIERS:
        cfg = read(path)
        if 'student' in cfg.model:
            assert cfg.model.report_steps == (1, 2, 4, 8)
            assert cfg.val_evaluator.type == 'mmfmkt.StepAccuracy'


@pytest.mark.slow
@pytest.mark.parametrize('path', TRAINED, ids=str)
def test_classification_configs_train_an_iteration_on_random_images(path):
    pytest.importorskip('mmpretrain')
    from mmpretrain.structures import DataSample

    model = model_of(path)
    side = 224 if 'imagenet' in path.parts else 32
    data = model.data_preprocessor(
        dict(
            inputs=list(
                torch.randint(256, (2, 3, side, side), dtype=torch.uint8)
            ),
            data_samples=[DataSample().set_gt_label(x) for x in (3, 7)],
        ),
        True,
    )
    total, log = model.parse_losses(model(**data, mode='loss'))
    total.backward()
    assert torch.isfinite(total)
    flows = path.name.startswith(('fmkt', 'theta', 'online', 'flow'))
    assert ('head.loss_flow' in log) == flows
