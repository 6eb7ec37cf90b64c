"""What the tests share: drawn data, and tools run as a user runs them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.logging import MessageHub

ROOT = Path(__file__).resolve().parent.parent
CPU = dict(
    CUDA_VISIBLE_DEVICES='', OMP_NUM_THREADS='1', PYTHONWARNINGS='ignore'
)


def pytest_collection_modifyitems(items):
    """Start what takes longest first, so that no core waits for it."""
    first = ('test_quick_start.py', 'test_tools', '')
    items.sort(
        key=lambda item: next(
            rank for rank, part in enumerate(first) if part in str(item.path)
        )
    )


def run(*command, fails=False, cwd=ROOT, **env):
    """Run a command in the repository and return all that it wrote.

    A ``.py`` at the front is run by this Python.
    """
    command = [str(part) for part in command]
    env = {name: str(value) for name, value in env.items()}
    if command[0].endswith('.py'):
        command.insert(0, sys.executable)
    path = os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])
    done = subprocess.run(
        command,
        cwd=cwd,
        env={
            **os.environ,
            **CPU,
            'PYTHON': sys.executable,
            'PYTHONPATH': path,
            **env,
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert bool(done.returncode) == fails, done.stdout[-4000:]
    return done.stdout


def scalars(work_dir):
    """All that visualizers wrote into a work folder, a dict a line."""
    return [
        json.loads(line)
        for path in sorted(work_dir.glob('*/vis_data/scalars.json'))
        for line in path.read_text().splitlines()
    ]


@pytest.fixture(scope='session')
def shapes(tmp_path_factory):
    """A small embedded data set: 16 training and 8 validation images."""
    from mmfmkt.datasets import make_shapes

    return make_shapes(
        tmp_path_factory.mktemp('data') / 'shapes',
        num_train=16,
        num_val=8,
        image_size=(64, 64),
        seed=0,
    )


@pytest.fixture
def run_progress():
    """What a Runner keeps up to date and BatchSyncRandomResize reads."""
    hub = MessageHub.get_current_instance()
    hub.update_info('iter', 0)
    yield
    hub.runtime_info.pop('iter')
