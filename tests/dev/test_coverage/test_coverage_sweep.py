"""Coverage sweep: families, comparison of runs, and small sweeps."""

import json
import sys

import pytest
import torch
from helpers import ROOT, run

pytest.importorskip('mmdet')
pytest.importorskip('mmpretrain')
sys.path.insert(0, str(ROOT / 'tools' / 'dev' / 'coverage'))

from sweep import equivalence, recipes  # noqa: E402
from sweep.equivalence import TrainingState, differences  # noqa: E402
from sweep.families import families  # noqa: E402


def test_families_of_other_tasks_are_excluded_with_a_reason():
    by_key = {
        x.key: x for name in ('mmdet', 'mmpretrain') for x in families(name)
    }
    assert len(by_key) > 160
    small = by_key['mmdet/retinanet'].configs[0]
    assert small == 'retinanet/retinanet_r18_fpn_1x_coco.py'
    # Self-supervised methods: the classifier comes first, not pretraining.
    assert 'benchmarks' in by_key['mmpretrain/byol'].configs[0]
    assert not by_key['mmdet/dino'].reason
    for name in ('mmdet/bytetrack', 'mmdet/masktrack_rcnn'):
        assert 'video' in by_key[name].reason
    assert 'semi-supervised' in by_key['mmdet/soft_teacher'].reason
    assert 'text' in by_key['mmpretrain/flamingo'].reason


def trained(**changes):
    """Return the state after a run of a small network."""
    tensors = dict(weight=torch.ones(3), steps=torch.tensor(2))
    options = dict(lr=0.1, weight_decay=0.01)
    return TrainingState(
        {**tensors, **changes.pop('tensors', {})},
        dict(weight={**options, **changes}),
    )


def test_equal_runs_do_not_differ_and_flows_are_ignored():
    flows = {
        'flows.neck.weight': torch.ones(1),
        'ema.flows.neck.weight': torch.ones(1),
    }
    other = trained(tensors=flows)
    other.groups['flows.neck.weight'] = dict(lr=1.0)
    assert differences(trained(), other) == ([], [])


@pytest.mark.parametrize(
    'changes, index, message',
    [
        (dict(lr=0.2), 0, 'lr of weight is 0.2 instead of 0.1'),
        (dict(lr_mult=2.0), 0, 'weight has the option lr_mult'),
        (
            dict(tensors=dict(weight=torch.ones(3).nextafter(torch.zeros(3)))),
            1,
            '1 of 2 tensors differ, first weight by 6e-08',
        ),
        (dict(tensors=dict(steps=torch.tensor(3))), 1, 'first steps by 1'),
        (dict(tensors=dict(weight=torch.ones(2))), 1, 'first weight by inf'),
        (dict(tensors=dict(extra=torch.ones(1))), 1, '1 tensors unexpected'),
    ],
)
def test_each_difference_is_described(changes, index, message):
    found = differences(trained(), trained(**changes))
    assert len(found[index]) == 1 and message in found[index][0]
    assert not found[1 - index]


def test_missing_parameters_and_tensors_are_described():
    found = differences(trained(), TrainingState({}, {}))
    assert '1 parameters missing, first weight' in found[0]
    assert '2 tensors missing, first weight' in found[1]


@pytest.mark.slow
def test_training_of_the_student_differs_only_with_a_nonzero_weight(
    tmp_path,
):
    config = 'mobilenet_v3/mobilenet-v3-small-050_8xb128_in1k.py'
    cfg, baseline = equivalence.train_baseline(
        recipes.read('mmpretrain', config), 64, tmp_path
    )
    distillation = equivalence.distilled(cfg, 'direct', 'head')
    for weight in (0.0, 1e-3):
        distillation.model.flow.loss_weight = weight
        student = equivalence.train(distillation, f'weight {weight}')
        groups, tensors = differences(baseline, student)
        assert not groups
        assert bool(tensors) == bool(weight), tensors


@pytest.mark.slow
def test_a_family_passes_and_a_repeated_sweep_skips_it(tmp_path):
    out = tmp_path / 'coverage.json'
    command = (
        'tools/dev/coverage/coverage_sweep.py',
        '--out',
        out,
        '--families',
    )
    log = run(*command, 'mmpretrain/mobilenet_v3', 'mmpretrain/flamingo')
    first = json.loads(out.read_text())
    family = first['mmpretrain/mobilenet_v3']
    assert family['equivalence']['status'] == 'equal', log
    assert family['variants']['status'] == 'passed', log
    assert first['mmpretrain/flamingo']['variants']['status'] == 'cannot apply'
    assert 'equivalence: 1 cannot apply, 1 equal' in log
    table = out.with_suffix('.md').read_text()
    assert '| mmpretrain/mobilenet_v3 | equal | passed | passed |' in table
    run(*command, 'mmpretrain/mobilenet_v3')
    assert json.loads(out.read_text()) == first
