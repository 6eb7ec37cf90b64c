"""What the README shows works as it is shown."""

import re
from pathlib import Path

import pytest
from conftest import ROOT, run
from mmengine.config import Config

import mmfmkt  # noqa: F401

pytest.importorskip('mmdet')

README = (ROOT / 'README.md').read_text(encoding='utf-8')
OWN_DATA, OWN_PAIR = re.findall(r'```python\n(.*?)```', README, re.DOTALL)
BCCD = Path('../shared/data/bccd')
TINY = ('model.teacher.checkpoint=None', 'train_cfg.max_epochs=1',
        'model.teacher.config=mmdet::retinanet/retinanet_r101_fpn_2x_coco.py',
        'model.student.backbone.init_cfg=None',
        'model.student.test_cfg.score_thr=0',
        'model.student.test_cfg.nms_pre=9',
        'default_hooks.logger.interval=1',
        'train_dataloader.dataset.indices=2',
        'train_dataloader.dataset.pipeline.2.scale=(64,64)',
        'val_dataloader.dataset.indices=1',
        'val_dataloader.dataset.pipeline.1.scale=(64,64)')


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
    not (ROOT / BCCD).is_dir(), reason='the BCCD photographs are not here')
def test_the_config_for_own_data_trains_on_photographs(tmp_path):
    shown = OWN_DATA.replace('data/bccd', str((ROOT / BCCD).resolve()))
    config = tmp_path / 'config.py'
    config.write_text(shown)
    log = run('tools/train.py', config, '--work-dir', tmp_path / 'run',
              '--cfg-options', *TINY)
    assert re.search(r'Epoch\(train\) +\[1\]\[1/1\]', log)
    assert 'neck.3.loss_flow' in log and 'Evaluating bbox' in log


def test_each_row_of_the_table_of_choices_builds():
    from mmfmkt.models.flows import FlowTransfer
    for key, choices in re.findall(r'\| `flow\.(\w+)` \| (.*?) \|', README):
        for choice in re.findall(r'`dict\((.*?)\)`', choices):
            parts = dict(
                encoder=dict(type='ConvEncoder'),
                schedule=dict(type='RectifiedFlow'),
                metric=dict(type='PKDLoss'))
            assert key in parts
            parts[key] = eval(f'dict({choice})')
            FlowTransfer(4, 4, **parts, loss_weight=1.)
