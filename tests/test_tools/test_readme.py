"""What the README shows works as it is shown."""

import re
from pathlib import Path

import pytest
from conftest import ROOT, run
from mmengine.config import Config
from tiny import distiller, retinanet

from mmfmkt.models.flows import FlowTransfer
from mmfmkt.registry import HOOKS, MODELS

pytest.importorskip('mmdet')

README = (ROOT / 'README.md').read_text(encoding='utf-8')
OWN_DATA, OWN_PAIR = re.findall(r'```python\n(.*?)```', README, re.DOTALL)
BCCD = Path('../shared/data/bccd')
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


def test_the_config_for_own_data_has_at_most_fifteen_lines():
    assert len(OWN_DATA.strip().splitlines()) <= 15


@pytest.mark.parametrize('shown', (OWN_DATA, OWN_PAIR))
def test_the_configs_shown_can_be_read(shown, tmp_path):
    (tmp_path / 'config.py').write_text(shown)
    cfg = Config.fromfile(tmp_path / 'config.py')
    assert cfg.model.type == 'mmfmkt.DetectionDistiller'
    assert cfg.model.student.backbone.depth == 50


@pytest.mark.slow
@pytest.mark.skipif(
    not (ROOT / BCCD).is_dir(), reason='the BCCD photographs are not here'
)
def test_the_config_for_own_data_trains_on_photographs(tmp_path):
    shown = OWN_DATA.replace('data/bccd', str((ROOT / BCCD).resolve()))
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
    assert 'neck.3.loss_flow' in log and 'Evaluating bbox' in log


ROWS = re.findall(
    r'^\| `(flow\.\w+|variant)` \| (.*) \|$', README, re.MULTILINE
)
VALUE = re.compile(r"`(dict\(.*?\)|[\d.]+|\([\d., ]+\)|'.*?')`")
CHOICES = [
    (key, choice) for key, choices in ROWS for choice in VALUE.findall(choices)
]


def test_the_table_of_choices_has_every_key_of_the_flow():
    from mmfmkt.models.distillers.tap_flow import FLOW_DEFAULTS
    from mmfmkt.models.flows import VARIANTS

    assert {key for key, _ in ROWS} == {
        'variant',
        *(f'flow.{key}' for key in FLOW_DEFAULTS),
    }
    assert {key for key, _ in CHOICES} == {key for key, _ in ROWS}
    shown = {eval(choice) for key, choice in CHOICES if key == 'variant'}
    assert shown == set(VARIANTS)


@pytest.mark.parametrize('key, choice', CHOICES)
def test_each_choice_is_one_line_of_a_config(key, choice):
    """Each is set by one line, and the distiller has it."""
    value = eval(choice)
    if 'KD' in choice and 'PKD' not in choice or 'DIST' in choice:
        # Logits are what FlowTransfer alone knows.
        FlowTransfer(
            4,
            4,
            encoder=dict(type='ConvEncoder'),
            schedule=dict(type='RectifiedFlow'),
            metric=value,
            space='logits',
            labelled=True,
        )
        return
    config = Config(
        dict(
            model=distiller(
                teacher=retinanet() if value != 'online' else None,
                variant=value if value == 'online' else 'fmkt',
                levels=(0, 1, 2, 3),
            )
        )
    )
    if value == 'velocities':
        # PKD has nothing to go by in a velocity of zero.
        config.model.flow.metric = dict(type='MSELoss')
    config.merge_from_dict({f'model.{key}': value})
    model = MODELS.build(config.model)
    flow = model.flows['neck']
    level = flow['0']
    seen = {
        'variant': model.variant,
        'flow.num_steps': flow.step_count.choices,
        'flow.inference_steps': flow.inference_steps,
        'flow.dirac_ratio': flow.dirac_ratio,
        'flow.loss_weight': level.loss_weight,
        'flow.prediction': level.prediction,
        'flow.compare': level.compare,
        'flow.direct_weight': level.direct_weight,
    }
    if key in seen:
        first = (
            value[0]
            if key == 'flow.loss_weight' and isinstance(value, tuple)
            else value
        )
        assert seen[key] in (first, (first,))
    else:
        part = getattr(level, key.removeprefix('flow.'))
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
