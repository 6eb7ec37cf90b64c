"""Quick start: all stages, continuation and signals."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
from helpers import CPU, ROOT, run, scalars, wait_until

pytest.importorskip('mmdet')
pytestmark = pytest.mark.slow

# Stand-in for find_python.sh: a set-up whose clean-up takes 0.3 s.
SET_UP = """
root_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
set_up() {
    "$PYTHON" -c '
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, signal.default_int_handler)
try:
    pathlib.Path("started").touch()
    time.sleep(60 if sys.argv[1] == "wait" else 0)
    sys.exit(3 if sys.argv[1] == "fail" else print("/bin/echo"))
except KeyboardInterrupt:
    time.sleep(0.3)
    pathlib.Path("cleaned up").touch()
' "$MODE"
}
"""


def processes_of(work_dir):
    """Return the command lines of processes that name a folder."""
    listing = subprocess.run(
        ['ps', '-ww', '-eo', 'args'], capture_output=True, text=True
    ).stdout
    return [line for line in listing.splitlines() if str(work_dir) in line]


def interrupt(command, work_dir):
    """Send SIGTERM to a quick start when its teacher is trained."""
    process = subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=ROOT,
        env={**os.environ, **CPU},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )

    def trains():
        assert process.poll() is None
        logs = [x.read_text() for x in work_dir.glob('teacher/*/*.log')]
        return 'Epoch(train)' in ''.join(logs)

    try:
        wait_until(trains, 900)
        assert len(processes_of(work_dir)) > 1
    finally:
        process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=300)
    assert process.returncode and 'the same command continues' in errors
    assert not processes_of(work_dir)


def test_an_interrupted_quick_start_continues_to_its_table_and_report(
    tmp_path,
):
    work_dir = tmp_path / 'quick start'
    command = (
        'tools/quick_start.py',
        '--work-dir',
        work_dir,
        '--epochs',
        1,
        '--train-images',
        16,
        '--val-images',
        8,
    )
    interrupt(command, work_dir)
    shown = run(*command)
    for word in (
        'teacher',
        'baseline student',
        'FM-KT student',
        'mAP50',
        'latency',
        'Report',
    ):
        assert word in shown
    page = (work_dir / 'report.html').read_text()
    for part in ('Detections', 'Feature maps', 'Sampling trajectories'):
        assert f'>{part}</h2>' in page
    results = json.loads((work_dir / 'results.json').read_text())
    metrics, costs = results['metrics'], results['costs']
    # MMDetection evaluates the export as the training evaluated its student.
    last = [x for x in scalars(work_dir / 'distilled') if 'loss' not in x][-1]
    accuracy = {x: value for x, value in last.items() if 'mAP' in x}
    assert metrics['distilled'].items() >= accuracy.items()
    assert costs['student']['parameters'] < costs['distilled']['parameters']
    assert costs['distilled']['flops'] < costs['teacher']['flops']

    refused = run(*command, '--variant', 'theta', fails=True)
    last = refused.strip().splitlines()[-1]
    assert last.startswith('error: ') and 'use another folder' in last


def start_script(folder, mode):
    """Start quick_start.sh with the stand-in set-up in its own session."""
    tools = folder / 'tools'
    (tools / 'dev').mkdir(parents=True)
    shutil.copy(ROOT / 'tools/quick_start.sh', tools)
    (tools / 'dev' / 'find_python.sh').write_text(SET_UP)
    return subprocess.Popen(
        ['bash', 'tools/quick_start.sh', '--epochs', '1'],
        cwd=folder,
        env={**os.environ, 'PYTHON': sys.executable, 'MODE': mode},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # In a background job SIGINT is ignored, and that is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.mark.parametrize('number', (signal.SIGTERM, signal.SIGINT))
def test_a_signal_to_the_script_ends_its_set_up(number, tmp_path):
    process = start_script(tmp_path, 'wait')
    try:
        wait_until((tmp_path / 'started').exists, 60)
    finally:
        process.send_signal(number)
    assert process.wait(50) == 128 + number
    assert (tmp_path / 'cleaned up').exists()


@pytest.mark.parametrize(
    'mode, code, output',
    [('go', 0, 'tools/quick_start.py --epochs 1\n'), ('fail', 3, '')],
)
def test_the_script_continues_after_its_set_up_unless_it_failed(
    mode, code, output, tmp_path
):
    process = start_script(tmp_path, mode)
    assert process.communicate(timeout=60)[0] == output
    assert process.returncode == code
