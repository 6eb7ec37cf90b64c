"""The coverage sweep, on a family that is quick and on the index."""

import json

import pytest
from conftest import run

pytest.importorskip('mmdet')

from mmfmkt.apis.coverage import families  # noqa: E402


def test_the_index_is_read_and_trackers_are_set_aside_by_their_task():
    found = {family.name: family for family in families()}
    assert len(found) > 90
    small = found['retinanet'].configs[0]
    assert small == 'retinanet/retinanet_r18_fpn_1x_coco.py'
    assert not found['retinanet'].reason and not found['dino'].reason
    for name in ('bytetrack', 'masktrack_rcnn'):
        assert 'video' in found[name].reason
    assert 'of its own' in found['soft_teacher'].reason


@pytest.mark.slow
def test_what_is_done_stays_done(tmp_path):
    out = tmp_path / 'coverage.json'
    command = ('tools/coverage_sweep.py', '--out', out, '--size', 64,
               '--families')
    log = run(*command, 'retinanet', 'bytetrack')
    first = json.loads(out.read_text())
    assert first['retinanet theta']['status'] == 'passed', log
    assert first['retinanet fmkt']['status'] == 'passed', log
    assert first['bytetrack fmkt']['status'] == 'cannot apply'
    assert '1 passed' in log and '1 cannot apply' in log
    table = out.with_suffix('.md').read_text()
    assert '| retinanet | passed | passed | retinanet/' in table
    run(*command, 'retinanet')
    assert json.loads(out.read_text()) == first
