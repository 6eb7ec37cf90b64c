"""Errors about missing and incompatible libraries."""

import sys
from importlib.metadata import version

import pytest
from helpers import ROOT, run

from mmfmkt.utils import require, stack


def test_the_installed_versions_are_accepted():
    require('torch', 'mmengine')
    assert stack.installed_version('torch') == version('torch')


def test_the_error_names_a_missing_library(monkeypatch):
    monkeypatch.setitem(
        stack.STACK, 'no_such', (('no-such',), '1.0.0', '2.0.0')
    )
    with pytest.raises(
        ImportError,
        match=r'no_such is not installed \(required: '
        r'no_such>=1.0.0,<2.0.0\).*tools/dev/setup_env.py',
    ):
        require('torch', 'no_such')
    require('no_such', optional=True)


@pytest.mark.parametrize('bounds', [('99.0.0', '100.0.0'), ('0.1.0', '0.2.0')])
def test_the_error_names_an_incompatible_library(monkeypatch, bounds):
    monkeypatch.setitem(
        stack.STACK, 'mmengine', (stack.STACK['mmengine'][0], *bounds)
    )
    installed = stack.installed_version('mmengine')
    for optional in (False, True):
        with pytest.raises(
            ImportError,
            match=f'mmengine {installed} is installed .required: '
            f'mmengine>={bounds[0]},<{bounds[1]}',
        ):
            require('mmengine', optional=optional)


def install_empty(monkeypatch, root, **versions):
    """Put empty packages with these versions first on the import path."""
    for name, number in versions.items():
        (root / name).mkdir(parents=True)
        (root / name / '__init__.py').touch()
        info = root / f'{name}-{number}.dist-info'
        info.mkdir()
        (info / 'METADATA').write_text(
            f'Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n'
        )
        # Set first, so that monkeypatch removes modules imported later.
        monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(root)


def test_an_assertion_of_mmdet_about_mmcv_is_reported(tmp_path, monkeypatch):
    install_empty(monkeypatch, tmp_path, mmdet='3.3.0', mmcv='2.2.0')
    require('mmcv', 'mmdet')  # the empty mmdet asserts nothing
    (tmp_path / 'mmdet/__init__.py').write_text(
        "assert False, 'Please install mmcv>=2.0.0rc4, <2.2.0.'"
    )
    monkeypatch.delitem(sys.modules, 'mmdet')
    with pytest.raises(
        ImportError,
        match=r'mmdet 3.3.0 cannot be imported \(Please install mmcv>=2.0.0r',
    ):
        require('mmcv', 'mmdet')
    # Classifiers do not need mmdet.
    require('mmcv', 'mmdet', optional=True)


def test_a_broken_library_without_metadata_is_reported(monkeypatch, tmp_path):
    (tmp_path / 'broken.py').write_text("assert False, 'wrong version'")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(stack.STACK, 'broken', (('none',), '1.0', '2.0'))
    require('broken', optional=True)
    with pytest.raises(
        ImportError, match='broken unknown cannot be .* .wrong version'
    ):
        require('broken')


def test_version_comparison_ignores_build_tags():
    assert stack.parse_release('2.11.0+cu130') == (2, 11, 0)
    assert stack.parse_release('3.5.1rc2') == (3, 5, 1)


@pytest.mark.slow
def test_building_a_distiller_names_a_missing_library(tmp_path):
    script = tmp_path / 'alone.py'
    script.write_text("""
import sys
for name in ('mmcv', 'mmdet', 'mmpretrain'):
    sys.modules[name] = None
from mmfmkt.models.distillers import DetectionDistiller
try:
    DetectionDistiller(student={})
except ImportError as error:
    print(error)
""")
    output = run(script)
    assert 'mmcv is not installed' in output
    assert 'mmdet is not installed' in output


@pytest.mark.slow
def test_tools_check_versions_and_imports_do_not(tmp_path, monkeypatch):
    install_empty(monkeypatch, tmp_path, mmdet='9.0.0')
    path = dict(PYTHONPATH=f'{tmp_path}:{ROOT}')
    assert not run(
        sys.executable,
        '-c',
        'import mmfmkt.models.flows, mmfmkt.models.distillers',
        **path,
    )
    log = run('tools/train.py', 'any.py', fails=True, fresh=True, **path)
    assert 'mmdet 9.0.0 is installed (required: mmdet>=3.1.0,<4.0.0)' in log
