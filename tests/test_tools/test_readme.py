"""Configs and code of README and docs work as shown."""

import re

import pytest
import torch
from helpers import BCCD, ROOT, run, scalars
from mmengine.config import Config
from tiny import distiller, retinanet

from mmfmkt.models.distillers.builder import (
    FLOW_DEFAULTS,
    FeaturePair,
    build_transfer,
    complete_flow,
)
from mmfmkt.models.flows import VARIANTS
from mmfmkt.registry import HOOKS, MODELS

pytest.importorskip('mmdet')

README = (ROOT / 'README.md').read_text(encoding='utf-8')
REFERENCE = (ROOT / 'docs/config_reference.md').read_text(encoding='utf-8')


def first_python_block(path):
    text = (ROOT / path).read_text(encoding='utf-8')
    return re.search(r'```python\n(.*?)```', text, re.DOTALL).group(1)


OWN_LOOP = first_python_block('README.md')
OWN_DATA = first_python_block('docs/own_data.md')
OWN_PAIR = first_python_block('docs/configs.md')
TINY = (
    'model.teacher.checkpoint=None',
    'train_cfg.max_epochs=1',
    'model.teacher.config=mmdet::retinanet/retinanet_r101_fpn_2x_coco.py',
    'model.student.backbone.init_cfg=None',
    'model.student.test_cfg.score_thr=0',
    'model.student.test_cfg.nms_pre=9',
    'default_hooks.logger.interval=1',
    'train_dataloader.dataset.indices=2',
    'train_dataloader.dataset.pipeline.2.scale=(64,64)',
    'val_dataloader.dataset.indices=1',
    'val_dataloader.dataset.pipeline.1.scale=(64,64)',
)


def test_the_readme_has_at_most_200_lines_and_a_table_of_12_rows():
    assert len(README.splitlines()) <= 200
    begin, end = (f'<!-- summary: {x} -->' for x in ('table', 'end of table'))
    table = README.split(begin)[1].split(end)[0].strip().splitlines()
    assert len(table) <= 2 + 12


def test_the_config_for_own_data_has_at_most_fifteen_lines():
    assert len(OWN_DATA.strip().splitlines()) <= 15


@pytest.mark.parametrize('shown', (OWN_DATA, OWN_PAIR))
def test_configs_in_readme_and_docs_can_be_read(shown, tmp_path):
    (tmp_path / 'config.py').write_text(shown)
    cfg = Config.fromfile(tmp_path / 'config.py')
    assert cfg.model.type == 'mmfmkt.DetectionDistiller'
    assert cfg.model.student.backbone.depth == 50


def test_the_pytorch_loop_has_at_most_15_lines_and_reduces_the_loss():
    assert len(OWN_LOOP.strip().splitlines()) <= 15
    torch.manual_seed(0)
    student, teacher = Backbone(8), Backbone(16)
    images, labels = torch.randn(4, 3, 6, 6), torch.arange(4)
    scope = dict(
        student=student, teacher=teacher, loader=[(images, labels)] * 40
    )
    shown = OWN_LOOP.replace('optimizer.step()', 'optimizer.step(); log()')
    seen = []
    scope['log'] = lambda: seen.append(scope['losses']['loss_flow'].item())
    exec(shown, scope)
    assert seen[-1] < 0.8 * seen[0]
    transfer = scope['transfer']
    feature = student.features(images)
    for steps in (1, 4):
        assert transfer.sample(feature, steps).shape == feature.shape


class Backbone(torch.nn.Module):
    """Network with the parts that the loop uses, with 256 channels."""

    def __init__(self, width):
        super().__init__()
        self.features = torch.nn.Sequential(
            torch.nn.Conv2d(3, width, 3, padding=1),
            torch.nn.ReLU(),
            torch.nn.Conv2d(width, 256, 3, padding=1),
        )
        self.head = torch.nn.Linear(256, 4)

    def head_loss(self, feature, labels):
        logits = self.head(feature.mean((2, 3)))
        return torch.nn.functional.cross_entropy(logits, labels)


@pytest.mark.slow
@pytest.mark.skipif(not BCCD.is_dir(), reason='BCCD is not available')
def test_the_config_for_own_data_trains_on_photographs(tmp_path):
    shown = OWN_DATA.replace('data/bccd', str(BCCD))
    config = tmp_path / 'config.py'
    config.write_text(shown)
    log = run(
        'tools/train.py',
        config,
        '--work-dir',
        tmp_path / 'run',
        '--cfg-options',
        *TINY,
    )
    assert re.search(r'Epoch\(train\) +\[1\]\[1/1\]', log)
    assert 'Evaluating bbox' in log
    assert 'neck.3.loss_flow' in scalars(tmp_path / 'run')[0]


ROWS = re.findall(
    r'^\| `(flow\.\w+|variant)` \| (.*) \|$', REFERENCE, re.MULTILINE
)
VALUE = re.compile(r"`(dict\(.*?\)|[\d.]+|\([\d., ]+\)|'.*?'|True)`")
CHOICES = [
    (key, choice) for key, choices in ROWS for choice in VALUE.findall(choices)
]
# Variant of the settings that are not of FM-KT.
VARIANT_OF = {'flow.ensemble_weight': 'theta'}


def test_the_table_of_choices_has_every_key_of_the_flow():
    assert {key for key, _ in ROWS} == {
        'variant',
        *(f'flow.{key}' for key in FLOW_DEFAULTS),
    }
    assert {key for key, _ in CHOICES} == {key for key, _ in ROWS}
    shown = {eval(choice) for key, choice in CHOICES if key == 'variant'}
    assert shown == set(VARIANTS)


@pytest.mark.parametrize('key, choice', CHOICES)
def test_each_documented_choice_can_be_set_by_its_key(key, choice):
    value = eval(choice)
    if re.search(r"'D?KD", choice) or 'DIST' in choice:
        flow = complete_flow(dict(metric=value))
        ends = FeaturePair(4, 4, space='logits')
        transfer = build_transfer('fmkt', ends, flow, 1.0, flow.encoder)
        assert type(transfer.metric).__name__ == value['type']
        return
    config = Config(
        dict(
            model=distiller(
                teacher=retinanet() if value != 'online' else None,
                variant=VARIANT_OF.get(
                    key, value if value == 'online' else 'fmkt'
                ),
                levels=(0, 1, 2, 3),
            )
        )
    )
    if value == 'velocities':
        # PKD is undefined for a velocity of zero.
        config.model.flow.metric = dict(type='MSELoss')
    config.merge_from_dict({f'model.{key}': value})
    model = MODELS.build(config.model)
    flow = model.flows['neck']
    level = flow['0']
    if key == 'variant':
        assert model.variant == value
        return
    if value == 'auto':
        assert level.gradient_share.share == 0.5
        return
    seen = {
        'flow.num_steps': flow.step_count.choices,
        'flow.inference_steps': flow.inference_steps,
        'flow.dirac_ratio': flow.dirac_ratio,
        'flow.loss_weight': level.loss_weight,
        'flow.prediction': level.field.prediction,
        'flow.compare': level.compare,
        'flow.direct_weight': level.direct_weight,
        'flow.with_cp': level.with_cp,
        'flow.ensemble_weight': getattr(level, 'ensemble_weight', None),
        'flow.share_encoder': level.field.encoder is flow['1'].field.encoder,
        'flow.compile': level.field.encoder.body_layers._compiled_call_impl
        is not None,
    }
    if key in seen:
        first = (
            value[0]
            if key == 'flow.loss_weight' and isinstance(value, tuple)
            else value
        )
        assert seen[key] in (first, (first,))
    else:
        name = key.removeprefix('flow.')
        part = getattr(level if name == 'metric' else level.field, name)
        assert type(part).__name__ == value['type']


DOCS = (ROOT / 'docs' / 'method.md').read_text(encoding='utf-8')


@pytest.mark.parametrize(
    'shown', re.findall(r'```python\n(model = .*?)```', DOCS, re.DOTALL)
)
def test_the_configs_in_the_docs_build(shown):
    config = Config(dict(model=distiller(levels=(0, 1))))
    config.merge_from_dict(Config.fromstring(shown, '.py'))
    MODELS.build(config.model)


@pytest.mark.parametrize(
    'hook', re.findall(r"`(dict\(type='mmfmkt.*?Hook.*?\))`", DOCS)
)
def test_the_hooks_in_the_docs_build(hook):
    assert HOOKS.build(eval(hook)).priority
