"""Contents and installation of source distribution and wheel."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from helpers import ROOT, run
from packaging.requirements import Requirement

pytestmark = pytest.mark.slow
BUILD = 'import sys; from setuptools import build_meta as b; b.build_{}({!r})'
INHERIT = """
from mmengine.config import Config
import mmfmkt
config = Config.fromfile('child.py')
print(mmfmkt.__file__, config.model.type)
"""
BACKBONE = """
import torch
from mmfmkt.models.flows import FMKT

class Backbone(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.features = torch.nn.Conv2d(3, 256, 3, padding=1)
        self.head = torch.nn.Linear(256, 4)

    def head_loss(self, feature, labels):
        logits = self.head(feature.mean((2, 3)))
        return torch.nn.functional.cross_entropy(logits, labels)

student, teacher = Backbone(8), Backbone(16)
loader = [(torch.randn(4, 3, 6, 6), torch.arange(4))] * 2
"""


@pytest.fixture(scope='module')
def clone(tmp_path_factory):
    """Return a copy of the clone, without generated files."""
    clone = tmp_path_factory.mktemp('clone') / 'clone'
    excluded = ('.git', '.venv*', 'work_dirs', 'data', '*.egg-info')
    ignore = shutil.ignore_patterns(*excluded, 'build', '__pycache__')
    shutil.copytree(ROOT, clone, symlinks=True, ignore=ignore)
    return clone


@pytest.fixture(scope='module')
def archives(clone, tmp_path_factory):
    """Build a source distribution, and a wheel from it."""
    out = tmp_path_factory.mktemp('dist')
    build('sdist', clone, out)
    with tarfile.open(next(out.glob('*.tar.gz'))) as archive:
        archive.extractall(out / 'source')
    build('wheel', next((out / 'source').iterdir()), out)
    return next(out.glob('*.tar.gz')), next(out.glob('*.whl'))


def build(kind, source, out):
    """Build as pip does, with the installed build requirements."""
    code = BUILD.format(kind, str(out))
    subprocess.run(
        [sys.executable, '-c', code],
        check=True,
        cwd=source,
        stdout=subprocess.DEVNULL,
        env={k: v for k, v in os.environ.items() if k != 'PYTHONPATH'},
    )


def files_of(folder):
    """Return the files of a folder, relative to the clone."""
    return {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / folder).rglob('*')
        if path.is_file() and '__pycache__' not in path.parts
    }


def test_the_source_distribution_has_all_build_inputs_and_no_dev_tools(
    archives,
):
    with tarfile.open(archives[0]) as archive:
        files = {
            name.partition('/')[2]
            for name in archive.getnames()
            if archive.getmember(name).isfile()
        }
    assert files >= files_of('configs') | files_of('requirements')
    assert files >= {'setup.py', 'pyproject.toml', 'model-index.yml'}
    # tools/quick_start.sh needs tools/dev.
    left_out = ('tools/dev/', 'tools/quick_start.', 'tests/')
    assert not {x for x in files if x.startswith(left_out)}


def test_the_wheel_has_configs_and_tools_and_no_dev_tools(archives):
    with zipfile.ZipFile(archives[1]) as archive:
        files = set(archive.namelist())
    mim = {
        name.removeprefix('mmfmkt/.mim/')
        for name in files
        if name.startswith('mmfmkt/.mim/')
    }
    tools = {
        name
        for name in files_of('tools')
        if not name.startswith(('tools/dev/', 'tools/quick_start.'))
    }
    assert mim == files_of('configs') | tools | {'model-index.yml'}
    package = {x for x in files_of('mmfmkt') if '/.mim/' not in x}
    assert {x for x in files - package if '.dist-info/' not in x} == {
        f'mmfmkt/.mim/{name}' for name in mim
    }
    assert package <= files and 'mmfmkt/py.typed' in files


def test_a_repeated_install_replaces_links_and_keeps_their_targets(clone):
    before = sorted((clone / 'configs').rglob('*'))
    code = (
        'import runpy; from pathlib import Path; '
        "make = runpy.run_path('setup.py')['make_mim']; "
        "mim = Path('mmfmkt/.mim'); "
        'make(mim, True); make(mim, False); make(mim, True)'
    )
    subprocess.run([sys.executable, '-c', code], check=True, cwd=clone)
    assert (clone / 'mmfmkt/.mim/configs').is_symlink()
    assert sorted((clone / 'configs').rglob('*')) == before
    shutil.rmtree(clone / 'mmfmkt/.mim')


def test_a_clone_without_an_install_finds_its_configs(clone, tmp_path):
    config = tmp_path / 'own.py'
    config.write_text(
        "_base_ = 'mmfmkt::retinanet/theta_retinanet_r101_r50.py'"
    )
    code = (
        'from mmfmkt.utils.configs import link_shipped, read_config; '
        f'link_shipped(); read_config({str(config)!r})'
    )
    ranks = [
        subprocess.Popen(
            [sys.executable, '-c', code],
            cwd=tmp_path,
            env={**os.environ, 'PYTHONPATH': str(clone)},
        )
        for _ in range(2)
    ]
    assert [rank.wait() for rank in ranks] == [0, 0]
    assert [x.name for x in (clone / 'mmfmkt').glob('.mim*')] == ['.mim']
    shutil.rmtree(clone / 'mmfmkt/.mim')


def make_venv(folder, *paths):
    """Create an environment with additional import folders."""
    subprocess.run(
        [sys.executable, '-m', 'venv', '--without-pip', folder], check=True
    )
    site = next(folder.glob('lib/python*/site-packages'))
    (site / 'more.pth').write_text(''.join(f'{path}\n' for path in paths))
    return folder / 'bin' / 'python', site


def install(python, *arguments, cwd):
    subprocess.run(
        [
            *(sys.executable, '-m', 'pip', '--python', python, 'install'),
            *('--no-build-isolation', '--no-input', '-q', *arguments),
        ],
        check=True,
        cwd=cwd,
    )


def link_distribution(name, folder, done):
    """Link an installed distribution and its requirements to a folder."""
    if name in done:
        return
    done.add(name)
    found = distribution(name)
    for top in {x.parts[0] for x in found.files if x.parts[0] != '..'}:
        source, target = Path(found.locate_file(top)), folder / top
        if top != '__pycache__' and not target.exists():
            target.symlink_to(source)
    for line in found.requires or []:
        required = Requirement(line)
        if not required.marker or required.marker.evaluate({'extra': ''}):
            link_distribution(required.name, folder, done)


@pytest.mark.parametrize('kind', (0, 1), ids=('sdist', 'wheel'))
def test_flows_and_the_loop_of_the_readme_need_only_torch(
    kind, archives, tmp_path
):
    alone = tmp_path / 'torch'
    alone.mkdir()
    link_distribution('torch', alone, set())
    # A build without isolation imports setuptools.
    link_distribution('setuptools', alone, set())
    python, _ = make_venv(tmp_path / 'venv', alone)
    install(python, '--no-deps', archives[kind], cwd=tmp_path)
    readme = (ROOT / 'README.md').read_text(encoding='utf-8')
    loop = re.search(r'```python\n(.*?)```', readme, re.DOTALL).group(1)
    check = (
        'import sys\n'
        "mm = ('mmengine', 'mmcv', 'mmdet', 'pydantic', 'rich')\n"
        'assert not any(x in sys.modules for x in mm)\n'
        "print('ended', losses['loss_flow'].item())\n"
    )
    (tmp_path / 'loop.py').write_text(f'{BACKBONE}\n{loop}\n{check}')
    output = run(python, tmp_path / 'loop.py', cwd=tmp_path, PYTHONPATH='')
    assert 'ended' in output
    # In the clone, Python would import mmfmkt from there.
    doctor = (python, '-m', 'mmfmkt', 'doctor')
    output = run(*doctor, fails=True, cwd=tmp_path, PYTHONPATH='')
    assert re.search(r'mmengine +- +not installed', output)


def distributions(python):
    """Return names and versions of the installed packages except mmfmkt."""
    code = (
        'from importlib.metadata import distributions\n'
        'for d in distributions(): print(d.name, d.version)'
    )
    listed = subprocess.run(
        [python, '-c', code], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    return {line for line in listed if not line.startswith('mmfmkt')}


@pytest.mark.parametrize('kind', ('sdist', 'wheel', 'editable'))
def test_an_install_changes_no_package_and_has_configs_and_commands(
    kind, clone, archives, tmp_path
):
    pytest.importorskip('mmdet')
    stack = sysconfig.get_path('purelib')
    python, site = make_venv(tmp_path / 'venv', stack)
    before = distributions(python)
    source = {
        'sdist': [archives[0]],
        'wheel': [archives[1]],
        'editable': ['-e', clone],
    }[kind]
    install(python, *source, cwd=tmp_path)
    assert distributions(python) == before
    empty = tmp_path / 'empty'
    empty.mkdir()
    (empty / 'child.py').write_text(
        "_base_ = 'mmfmkt::retinanet/theta_retinanet_r101_r50.py'\n"
    )
    (empty / 'show.py').write_text(INHERIT)
    shown = run(python, empty / 'show.py', cwd=empty, PYTHONPATH='')
    folder = clone if kind == 'editable' else site
    assert f'{folder}/mmfmkt/__init__.py mmfmkt.DetectionDistiller' in shown
    mmfmkt = python.with_name('mmfmkt')
    output = run(mmfmkt, 'doctor', cwd=empty, PYTHONPATH='')
    assert 'detectors can be distilled' in output
    if kind == 'wheel':
        output = run(
            *(mmfmkt, 'distill'),
            'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py',
            *('--teacher', 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'),
            '--dry-run',
            cwd=empty,
            PYTHONPATH='',
        )
        assert 'config    work_dirs/' in output
