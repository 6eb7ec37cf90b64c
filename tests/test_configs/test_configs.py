"""Every shipped config builds, is short, and can be inherited."""

import re

import pytest
import torch
from conftest import ROOT
from mmengine.config import Config

import mmfmkt  # noqa: F401

pytest.importorskip('mmdet')

from mmfmkt.registry import MODELS  # noqa: E402

CONFIGS = sorted(
    path.relative_to(ROOT / 'configs')
    for path in (ROOT / 'configs').rglob('*.py')
    if '_base_' not in path.parts)
DISTILLATIONS = [
    path for path in CONFIGS
    if re.match('fmkt|theta', path.name) and 'quick_start' not in path.parts
]


@pytest.mark.parametrize('path', CONFIGS, ids=str)
def test_another_project_can_inherit_it(path, tmp_path):
    child = tmp_path / 'child.py'
    # MMEngine wants a folder in the name of a packaged config.
    name = path if len(path.parts) > 1 else f'_base_/../{path}'
    child.write_text(f"_base_ = 'mmfmkt::{name}'\n")
    inherited = Config.fromfile(child)
    original = Config.fromfile(ROOT / 'configs' / path)
    assert inherited.model.type == original.model.type
    assert inherited.train_dataloader.dataset.type == 'CocoDataset'


@pytest.mark.parametrize('path', DISTILLATIONS, ids=str)
def test_distillation_configs_are_short(path):
    lines = (ROOT / 'configs' / path).read_text().splitlines()
    assert sum(bool(x) and not x.startswith('#') for x in lines) <= 22


@pytest.mark.parametrize('student', (
    'rtmdet/rtmdet_tiny_8xb32-300e_coco.py',
    'yolox/yolox_tiny_8xb8-300e_coco.py',
    'detr/detr_r50_8xb2-150e_coco.py',
))
def test_a_preset_stands_beside_students_with_hooks_and_imports(
        student, tmp_path):
    path = tmp_path / 'config.py'
    path.write_text(f"""
_base_ = ['mmdet::{student}', 'mmfmkt::_base_/theta_fpn.py']
model = dict(_base_.distiller, _delete_=True, student=_base_.model,
             teacher=dict(config='mmdet::{student}', checkpoint=None),
             levels=None)
""")
    model = MODELS.build(Config.fromfile(path).model)
    assert len(model.flows['neck']) > 0


@pytest.mark.slow
@pytest.mark.parametrize('path', DISTILLATIONS, ids=str)
def test_the_real_pair_trains_an_iteration_on_random_images(path):
    cfg = Config.fromfile(ROOT / 'configs' / path)
    assert cfg.model.teacher.checkpoint.startswith('https://')
    # Public weights are out of a test's reach: those drawn here stand in.
    cfg.model.teacher.checkpoint = None
    cfg.model.student.backbone.init_cfg = None
    model = MODELS.build(cfg.model)
    from mmdet.testing import demo_mm_inputs
    data = model.data_preprocessor(
        demo_mm_inputs(1, [(3, 64, 64)], num_classes=80), True)
    total, log = model.parse_losses(model(**data, mode='loss'))
    total.backward()
    assert torch.isfinite(total)
    assert sum('loss_flow' in name for name in log) == 4
