"""Tools for robustness: kills and long runs."""

import re

import pytest
from helpers import run
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
    assert ' tensors, equal in every bit' in log


def test_memory_and_handles_of_a_run_are_recorded(shapes, tmp_path):
    config = write_config(tmp_path / 'config.py', shapes, 'theta', epochs=4)
    log = run(
        'tools/dev/robustness/long_run.py',
        config,
        *('--every', 0.1, '--work-dir', tmp_path / 'run'),
        *('--plot', tmp_path / 'rows.png'),
        # The tool measures the process that it starts.
        fresh=True,
    )
    memory = re.search(r'memory in MiB: ([\d.]+)', log)
    assert float(memory[1]) > 100 and 'file handles: ' in log
    assert (tmp_path / 'rows.png').stat().st_size > 1000
