"""A missing or incompatible library is named with the versions wanted."""

from importlib.metadata import version

import pytest
from conftest import run

from mmfmkt.utils import require, stack


def test_the_stack_of_this_environment_is_accepted():
    require('torch', 'mmengine')
    assert stack.installed_version('torch') == version('torch')


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(stack.STACK, 'no_such',
                        (('no-such', ), '1.0.0', '2.0.0'))
    with pytest.raises(
            ImportError, match=r'no_such is not installed \(wanted: '
            r'no_such>=1.0.0,<2.0.0\).*tools/setup_env.py'):
        require('torch', 'no_such')
    require('no_such', optional=True)


@pytest.mark.parametrize('bounds', [('99.0.0', '100.0.0'),
                                    ('0.1.0', '0.2.0')])
def test_an_incompatible_library_is_named(monkeypatch, bounds):
    monkeypatch.setitem(stack.STACK, 'mmengine',
                        (stack.STACK['mmengine'][0], *bounds))
    found = stack.installed_version('mmengine')
    for optional in (False, True):
        with pytest.raises(
                ImportError,
                match=f'mmengine {found} was found .wanted: '
                f'mmengine>={bounds[0]},<{bounds[1]}'):
            require('mmengine', optional=optional)


def test_release_ignores_build_tags():
    assert stack.release('2.11.0+cu130') == (2, 11, 0)
    assert stack.release('3.5.1rc2') == (3, 5, 1)


@pytest.mark.slow
def test_flows_and_metrics_need_only_torch_and_mmengine(tmp_path):
    script = tmp_path / 'alone.py'
    script.write_text("""
import sys
for name in ('mmcv', 'mmdet', 'mmpretrain'):
    sys.modules[name] = None
import torch
from mmfmkt.models.flows import FlowTransfer
from mmfmkt.models import DetectionDistiller
flow = FlowTransfer(4, 6, dict(type='ConvEncoder'),
                    dict(type='RectifiedFlow'), dict(type='PKDLoss'), 1.)
print(flow(torch.randn(1, 4, 3, 3), torch.randn(1, 6, 3, 3), 2)[0])
try:
    DetectionDistiller(student={})
except ImportError as error:
    print(error)
""")
    output = run(script)
    assert 'loss_flow' in output
    assert 'mmcv is not installed' in output
    assert 'mmdet is not installed' in output
