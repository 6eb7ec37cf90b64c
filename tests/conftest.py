"""What the tests share: drawn data, and tools run as a user runs them."""

import gc
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from config_layout import skip_layout

skip_layout()

from mmengine.logging import MessageHub  # noqa: E402

from mmfmkt.utils.configs import link_shipped  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
CPU = dict(
    CUDA_VISIBLE_DEVICES='', OMP_NUM_THREADS='1', PYTHONWARNINGS='ignore'
)


def pytest_configure():
    """Make what an editable install makes, where the clone has none."""
    link_shipped()


def pytest_collection_modifyitems(config, items):
    """Leave out slow tests of tests/dev that no argument names; sort.

    What takes longest starts first, so that no core waits for it.
    """
    if not any('tests/dev' in x for x in config.args):
        left, kept = [], []
        for item in items:
            slow = item.get_closest_marker('slow')
            apart = slow and 'tests/dev' in str(item.path)
            (left if apart else kept).append(item)
        config.hook.pytest_deselected(items=left)
        items[:] = kept
    first = ('test_quick_start.py', 'test_tools', 'tests/dev', '')
    items.sort(
        key=lambda item: next(
            rank for rank, part in enumerate(first) if part in str(item.path)
        )
    )


def pytest_collection_finish():
    """Spare the garbage collector the libraries that are imported by now.

    MMEngine's data sets collect garbage, each time they are built.
    """
    gc.freeze()


class Tools:
    """One server of tools for all that this process runs."""

    def __init__(self):
        self.server = None

    def run(self, command, cwd, env):
        """Run a tool of the repository; its exit code and what it wrote."""
        if self.server is None or self.server.poll() is not None:
            self.server = subprocess.Popen(
                [sys.executable, ROOT / 'tests' / 'tool_server.py'],
                cwd=ROOT,
                env={**os.environ, **CPU},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                bufsize=1,
            )
        with tempfile.NamedTemporaryFile('r', errors='replace') as out:
            asked = dict(command=command, cwd=cwd, env=env, out=out.name)
            print(json.dumps(asked), file=self.server.stdin)
            code = int(self.server.stdout.readline())
            return code, out.read()


TOOLS = Tools()


def run(*command, fails=False, cwd=ROOT, **env):
    """Run a command in the repository and return all that it wrote.

    A ``.py`` at the front is run by this Python, without importing the
    libraries once more where nothing is asked of the environment.
    """
    command = [str(part) for part in command]
    ours = {name: str(value) for name, value in env.items()}
    path = os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])
    env = {
        **os.environ,
        **CPU,
        'PYTHON': sys.executable,
        'PYTHONPATH': path,
        **ours,
    }
    if command[0].endswith('.py') and not ours:
        code, output = TOOLS.run(command, str(cwd), env)
    else:
        if command[0].endswith('.py'):
            command.insert(0, sys.executable)
        done = subprocess.run(
            command,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        code, output = done.returncode, done.stdout
    assert bool(code) == fails, output[-4000:]
    return output


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
