"""Unusual configs that MMEngine trains are trained and distilled."""

import psutil
import pytest
from helpers import wait_until

pytest.importorskip('mmdet')
pytest.importorskip('mmpretrain')
pytestmark = pytest.mark.slow

from dev.soundness.inputs import all_inputs  # noqa: E402
from dev.soundness.trial import (  # noqa: E402
    COLUMNS,
    Server,
    command,
    try_input,  # noqa: E402
)

# Fast inputs; tests/dev/soundness/run.py runs all.
QUICK = (
    'lvis-layout',
    'own-loader',
    'own-pool',
    'class-agnostic-masks',
    'one-image-batches',
    'prefixed-types',
    'timm',
    'average-none',
    'normalized-classifier',
    'gray-under-color',
    'mmpretrain-options',
    'on-cifar10-folder',
)
HANGING = """
import os, time

os.fork()
with open(f'{os.getpid()}.pid', 'w') as file:
    pass
time.sleep(600)
"""


@pytest.fixture(scope='module')
def server():
    server = Server()
    yield server
    server.close()


@pytest.mark.parametrize('name', QUICK)
def test_a_config_that_mmengine_trains_is_trained_and_distilled(
    name, server, tmp_path
):
    item = next(x for x in all_inputs() if x.name == name)
    row = try_input(item, server, tmp_path)
    assert {x: row[x] for x in COLUMNS} == dict.fromkeys(COLUMNS, '')


def test_a_command_that_exceeds_its_limit_is_killed_with_its_children(
    server, tmp_path, monkeypatch
):
    (tmp_path / 'hanging.py').write_text(HANGING)
    monkeypatch.setattr(server, 'limit', 1)
    hanging = command(str(tmp_path / 'hanging.py'))
    assert server.run(hanging, tmp_path, tmp_path / 'log') == -9
    pids = [int(x.stem) for x in tmp_path.glob('*.pid')]
    assert len(pids) == 2
    wait_until(lambda: not any(map(runs, pids)), 10)


def runs(pid):
    """Return whether a process runs and is not a zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
