"""The quick start goes its whole way, and continues where it stopped."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import CPU, ROOT, run

pytest.importorskip('mmdet')
pytestmark = pytest.mark.slow


def test_quick_start_ends_with_table_and_picture_and_can_be_repeated(
        tmp_path):
    work_dir = tmp_path / 'quick start'
    command = ('tools/quick_start.py', '--work-dir', work_dir, '--epochs', 1,
               '--train-images', 16, '--val-images', 8)
    shown = run(*command)
    for word in ('teacher', 'plain student', 'FM-KT student', 'mAP50',
                 'latency', 'Side by side'):
        assert word in shown
    assert (work_dir / 'comparison.png').stat().st_size > 10_000
    results = json.loads((work_dir / 'results.json').read_text())
    metrics, costs = results['metrics'], results['costs']
    assert metrics['exported'].items() >= {
        key: value
        for key, value in metrics['distilled'].items() if 'mAP' in key
    }.items()
    assert costs['student']['parameters'] < costs['distilled']['parameters']
    assert costs['distilled']['flops'] < costs['teacher']['flops']

    # A stage that was cut off is done again, the others are not.
    (work_dir / 'evaluate_student.json').unlink()
    before = (work_dir / 'train_teacher.log').stat().st_mtime
    again = run(*command)
    assert 'train teacher: done before' in again
    assert 'evaluate student: done before' not in again
    assert (work_dir / 'train_teacher.log').stat().st_mtime == before

    refused = run(*command, '--variant', 'theta', fails=True)
    last = refused.strip().splitlines()[-1]
    assert last.startswith('error: ') and 'name another --work-dir' in last


def processes_of(work_dir):
    """Those whose command line names a folder."""
    found = subprocess.run(['ps', '-ww', '-eo', 'args'], capture_output=True,
                           text=True).stdout
    return [line for line in found.splitlines() if str(work_dir) in line]


def test_what_ends_the_quick_start_ends_its_training(tmp_path):
    process = subprocess.Popen(
        [sys.executable, 'tools/quick_start.py', '--work-dir', tmp_path,
         '--train-images', '64', '--val-images', '1'],
        cwd=ROOT, env={**os.environ, **CPU}, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True)
    log = tmp_path / 'train_teacher.log'
    while not log.exists() or 'Epoch(train)' not in log.read_text():
        assert process.poll() is None
        time.sleep(0.2)
    assert len(processes_of(tmp_path)) > 1
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=30)
    assert process.returncode and 'the same command continues' in said
    assert not processes_of(tmp_path)
