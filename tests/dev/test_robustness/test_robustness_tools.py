"""Tools for robustness: kills and long runs."""

import json

import pytest
from conftest import run
from tiny import write_config

pytest.importorskip('mmdet')
pytestmark = pytest.mark.slow


def test_an_interrupted_run_ends_with_the_weights_of_an_uninterrupted_one(
    shapes, tmp_path
):
    config = write_config(tmp_path / 'config.py', shapes, 'fmkt', epochs=5)
    log = run(
        'tools/dev/robustness/kill_and_resume.py',
        config,
        '--work-dir',
        tmp_path / 'runs',
        *('--kills', 0, '--in-write', 1, '--terminations', 1),
    )
    assert '1 half written' in log and 'ended before' not in log
    assert ' tensors, 0 of them different, largest difference 0' in log


def test_memory_handles_and_threads_of_a_run_are_recorded(shapes, tmp_path):
    config = write_config(tmp_path / 'config.py', shapes, 'theta', epochs=4)
    log = run(
        'tools/dev/robustness/long_run.py',
        config,
        *('--every', 0.1, '--work-dir', tmp_path / 'run'),
        *('--out', tmp_path / 'rows.json', '--plot', tmp_path / 'rows.png'),
    )
    assert 'memory in MiB: ' in log and 'file handles: ' in log
    rows = json.loads((tmp_path / 'rows.json').read_text())
    assert len(rows) >= 9 and all(row['memory'] > 100 for row in rows)
    assert (tmp_path / 'rows.png').stat().st_size > 1000
