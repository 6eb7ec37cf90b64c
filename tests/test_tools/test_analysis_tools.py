"""The analysis tools."""

import json

import pytest
import torch
from helpers import run
from mmengine.config import Config
from tiny import write_config

from mmfmkt.registry import MODELS

pytest.importorskip('mmdet')
pytestmark = pytest.mark.slow

CUSTOM_SCHEDULE = """
from mmfmkt.models.flows import NoiseSchedule, SchedulePoint
from mmfmkt.registry import MODELS


@MODELS.register_module()
class Square(NoiseSchedule):

    def point(self, t):
        return SchedulePoint(t**2, 1 - t**2, 2 * t, -2 * t)
"""


def test_schedules_are_checked_numerically():
    log = run('tools/analysis_tools/schedules.py')
    for name in ('RectifiedFlow', 'VPODE', 'SubVPODE', 'VEODE', 'N=128'):
        assert name in log
    assert 'exact' in log


def test_a_custom_schedule_is_checked_numerically(tmp_path):
    (tmp_path / 'custom_schedule.py').write_text(CUSTOM_SCHEDULE)
    log = run(
        'tools/analysis_tools/schedules.py',
        'Square',
        '--import',
        'custom_schedule',
        PYTHONPATH=f'{tmp_path}:.',
    )
    assert 'Square' in log and 'VEODE' not in log
    log = run('tools/analysis_tools/schedules.py', 'Sqare', fails=True)
    assert "error: model.flow.type: 'Sqare' is not registered" in log


def test_the_likelihood_before_and_after_training(shapes, tmp_path):
    pytest.importorskip('torchdiffeq')
    config = write_config(tmp_path / 'config.py', shapes, 'fmkt')
    model = MODELS.build(Config.fromfile(config).model)
    for parameter in model.flows.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    trained = tmp_path / 'trained.pth'
    torch.save(dict(state_dict=model.state_dict()), trained)
    changes = []
    for checkpoint in ((), (trained,)):
        out = tmp_path / 'likelihood.json'
        log = run(
            'tools/analysis_tools/likelihood.py',
            config,
            *checkpoint,
            '--batches',
            1,
            '--out',
            out,
        )
        assert 'neck.3' in log
        results = json.loads(out.read_text())
        changes.append([x['mean'] for x in results['levels'].values()])
    assert changes[0] == [0, 0, 0, 0] and all(changes[1])
