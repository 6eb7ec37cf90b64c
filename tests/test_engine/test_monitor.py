"""FlowMonitorHook: its statistics, and no change of the training."""

import re

import pytest
import torch
from helpers import run, scalars
from mmengine.config import Config
from tiny import write_config

from mmfmkt.models.flows import (
    FMKT,
    ConvEncoder,
    EulerSampler,
    MapTransform,
    RectifiedFlow,
    VelocityField,
)
from mmfmkt.models.flows.inspection import measure_flow
from mmfmkt.models.losses import MSELoss, PKDLoss


@pytest.mark.parametrize('metric', (MSELoss, PKDLoss))
def test_measured_statistics_are_those_of_training(metric):
    torch.manual_seed(0)
    encoder = ConvEncoder(8, zero_init=False)
    transfer = FMKT(
        VelocityField(encoder, RectifiedFlow()), metric(), MapTransform(8, 12)
    )
    source, target = torch.randn(2, 8, 6, 5), torch.randn(2, 12, 6, 5)
    stats = measure_flow(transfer, source, target, 4)
    losses, output = transfer(source, target, 4, diagnose=True)
    assert stats.bound == pytest.approx(losses['loss_flow'].item(), rel=1e-4)
    assert stats.after == pytest.approx(
        losses['metric_of_mean'].item(), rel=1e-4
    )
    distance = transfer.metric(transfer.transform(source, target), target)
    assert stats.before == pytest.approx(distance.item(), rel=1e-4)
    steps = EulerSampler(transfer.field, source, 4)
    ratios = [x.velocity.square().mean().sqrt() for x in steps]
    velocity = sum(ratios) / 4 / source.square().mean().sqrt()
    assert stats.velocity == pytest.approx(velocity.item(), rel=1e-4)
    assert len(stats.per_step) == 4
    torch.testing.assert_close(sum(stats.estimates) / 4, output)
    if metric is MSELoss:
        assert stats.gap > 0


@pytest.mark.slow
def test_the_monitor_writes_scalars_and_does_not_change_training(
    tmp_path, shapes
):
    pytest.importorskip('mmdet')
    weights = []
    for name, interval in (('seldom', 1000), ('often', 2)):
        path = tmp_path / f'{name}.py'
        write_config(path, shapes, 'fmkt', epochs=2)
        cfg = Config.fromfile(path)
        cfg.custom_hooks = [
            dict(type='mmfmkt.FlowMonitorHook', interval=interval)
        ]
        cfg.default_hooks = dict(logger=dict(type='LoggerHook', interval=1))
        cfg.custom_imports = dict(imports=['mmfmkt'])
        cfg.dump(path)
        log = run('tools/train.py', path, '--work-dir', tmp_path / name)
        state = torch.load(tmp_path / name / 'epoch_2.pth', weights_only=False)
        weights.append(state['state_dict'])
    for key, tensor in weights[0].items():
        assert torch.equal(weights[1][key], tensor), key
    lines = scalars(tmp_path / 'often')
    stats = [x for x in lines if 'flow/neck.0/velocity' in x]
    assert [x['step'] for x in stats] == [2, 4, 6, 8]
    for part in ('distance_before', 'distance_after', 'jensen_gap'):
        assert all(f'flow/neck.2/{part}' in x for x in stats)
    assert stats[-1]['flow/neck.0/velocity'] > 0
    assert stats[-1]['flow/grad_norm_student'] > 0
    assert stats[-1]['flow/grad_norm_flow'] > 0
    # The log line has sums of losses; visualizers get each loss.
    logged = re.findall(
        r'Epoch\(train\) +\[\d\]\[\d/4\]  lr: .* '
        r'\(teacher \d+%\)  .* '
        r'loss: ([\d.]+) \(student ([\d.]+), transfer ([\d.]+)\)\n',
        log,
    )
    assert len(logged) == 8
    for total, student, transfer in logged:
        assert float(total) == pytest.approx(
            float(student) + float(transfer), abs=1e-3
        )
    assert any('neck.0.loss_flow' in x and 'loss_cls' in x for x in lines)
