"""pip install beside a working stack: it works, and leaves the stack."""

import shutil
import subprocess
import sys
import sysconfig

import pytest
from conftest import ROOT, run

pytestmark = pytest.mark.slow
SCRIPT = """
from mmengine.config import Config
import mmfmkt
config = Config.fromfile('child.py')
print(mmfmkt.__file__, config.model.type)
"""


def distributions(python):
    """Names and versions of all that is installed but mmfmkt."""
    listed = subprocess.run(
        [
            python,
            '-c',
            'from importlib.metadata import distributions\n'
            'for d in distributions(): print(d.name, d.version)',
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    return {line for line in listed if not line.startswith('mmfmkt')}


@pytest.mark.parametrize('editable', (False, True))
def test_pip_install_leaves_the_stack_and_ships_the_configs(
    editable, tmp_path
):
    clone = tmp_path / 'clone'
    shutil.copytree(
        ROOT,
        clone,
        symlinks=True,
        ignore=shutil.ignore_patterns(
            '.git',
            '.mim',
            '.venv*',
            'work_dirs',
            'data',
            '*.egg-info',
            'build',
            '__pycache__',
        ),
    )
    subprocess.run(
        [sys.executable, '-m', 'venv', '--without-pip', tmp_path / 'venv'],
        check=True,
    )
    python = tmp_path / 'venv/bin/python'
    site = next((tmp_path / 'venv/lib').glob('python*/site-packages'))
    (site / 'stack.pth').write_text(sysconfig.get_path('purelib') + '\n')
    before = distributions(python)
    subprocess.run(
        [
            sys.executable,
            '-m',
            'pip',
            '--python',
            python,
            'install',
            '--no-build-isolation',
            '--no-input',
            '-q',
            *(['-e'] if editable else []),
            clone,
        ],
        check=True,
        cwd=tmp_path,
    )
    assert distributions(python) == before
    (tmp_path / 'child.py').write_text(
        "_base_ = 'mmfmkt::retinanet/theta_retinanet_r101_r50.py'\n"
    )
    (tmp_path / 'show.py').write_text(SCRIPT)
    shown = run(python, tmp_path / 'show.py', cwd=tmp_path, PYTHONPATH='')
    home = clone if editable else site
    assert f'{home}/mmfmkt/__init__.py mmfmkt.DetectionDistiller' in shown
