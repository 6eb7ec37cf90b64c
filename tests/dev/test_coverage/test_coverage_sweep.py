"""The coverage sweep: what it compares, and families that are quick."""

import json
import sys

import pytest
import torch
from conftest import ROOT, run

pytest.importorskip('mmdet')
pytest.importorskip('mmpretrain')
sys.path.insert(0, str(ROOT / 'tools' / 'dev' / 'coverage'))

from sweep import equivalence, recipes  # noqa: E402
from sweep.equivalence import Trained, differences  # noqa: E402
from sweep.families import families  # noqa: E402


def test_the_index_is_read_and_other_tasks_are_set_aside():
    found = {
        x.key: x for name in ('mmdet', 'mmpretrain') for x in families(name)
    }
    assert len(found) > 160
    small = found['mmdet/retinanet'].configs[0]
    assert small == 'retinanet/retinanet_r18_fpn_1x_coco.py'
    # What learns without labels comes with a classifier that is trained on.
    assert 'benchmarks' in found['mmpretrain/byol'].configs[0]
    assert not found['mmdet/dino'].reason
    for name in ('mmdet/bytetrack', 'mmdet/masktrack_rcnn'):
        assert 'video' in found[name].reason
    assert 'of its own' in found['mmdet/soft_teacher'].reason
    assert 'text' in found['mmpretrain/flamingo'].reason


def trained(**changes):
    """What a run of a small network might leave."""
    tensors = dict(weight=torch.ones(3), steps=torch.tensor(2))
    options = dict(lr=0.1, weight_decay=0.01)
    return Trained(
        {**tensors, **changes.pop('tensors', {})},
        dict(weight={**options, **changes}),
    )


def test_runs_that_are_alike_do_not_differ_and_flows_are_left_out():
    more = {
        'flows.neck.weight': torch.ones(1),
        'ema.flows.neck.weight': torch.ones(1),
    }
    other = trained(tensors=more)
    other.groups['flows.neck.weight'] = dict(lr=1.0)
    assert differences(trained(), other) == ([], [])


@pytest.mark.parametrize(
    'changes, what, said',
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
        (dict(tensors=dict(extra=torch.ones(1))), 1, '1 tensors too many'),
    ],
)
def test_any_difference_is_found_and_named(changes, what, said):
    found = differences(trained(), trained(**changes))
    assert len(found[what]) == 1 and said in found[what][0]
    assert not found[1 - what]


def test_what_is_missing_is_found():
    found = differences(trained(), Trained({}, {}))
    assert '1 parameters missing, first weight' in found[0]
    assert '2 tensors missing, first weight' in found[1]


@pytest.mark.slow
def test_a_student_differs_as_soon_as_its_transfer_weighs_anything(tmp_path):
    config = 'mobilenet_v3/mobilenet-v3-small-050_8xb128_in1k.py'
    cfg, plain = equivalence.train_plain(
        recipes.read('mmpretrain', config), 64, tmp_path
    )
    wrapped = equivalence.distilled(cfg, 'direct', 'head')
    for weight in (0.0, 1e-3):
        wrapped.model.flow.loss_weight = weight
        direct = equivalence.train(wrapped, f'weight {weight}')
        groups, tensors = differences(plain, direct)
        assert not groups
        assert bool(tensors) == bool(weight), tensors


@pytest.mark.slow
def test_a_family_passes_and_what_is_done_stays_done(tmp_path):
    out = tmp_path / 'coverage.json'
    command = (
        'tools/dev/coverage/coverage_sweep.py',
        '--out',
        out,
        '--library',
        'mmpretrain',
        '--families',
    )
    log = run(*command, 'mobilenet_v3', 'flamingo')
    first = json.loads(out.read_text())
    family = first['mmpretrain/mobilenet_v3']
    assert family['equivalence']['status'] == 'equal', log
    assert family['variants']['status'] == 'passed', log
    assert first['mmpretrain/flamingo']['variants']['status'] == 'cannot apply'
    assert 'equivalence: 1 cannot apply, 1 equal' in log
    table = out.with_suffix('.md').read_text()
    assert '| mmpretrain/mobilenet_v3 | equal | passed | passed |' in table
    run(*command, 'mobilenet_v3')
    assert json.loads(out.read_text()) == first
