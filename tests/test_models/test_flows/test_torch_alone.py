"""Flows and losses need PyTorch and no other library."""

import re
import sys

import pytest
from helpers import ROOT, run

ABSENT = (
    'mmengine',
    'mmcv',
    'mmdet',
    'mmpretrain',
    'pydantic',
    'rich',
    'yaml',
    'plotly',
    'pycocotools',
    # Builds of PyTorch without distributed training lack it.
    'torch.distributed.nn.functional',
)
PRELUDE = f"""
import sys
for name in {ABSENT}:
    sys.modules[name] = None  # importing it fails
from mmfmkt.models.flows import FMKT
"""
CHECKS = """
assert deployed.shape == (2, 64, 32, 32) and losses['loss_flow']
import importlib, pkgutil
from mmfmkt.models import flows, losses
for package in (flows, losses):
    prefix = package.__name__ + '.'
    for module in pkgutil.walk_packages(package.__path__, prefix):
        importlib.import_module(module.name)
loaded = [x for x in sys.modules if x.startswith('mmfmkt.') and sys.modules[x]]
print('|', *loaded)
"""


@pytest.mark.slow
def test_flows_losses_and_the_example_of_the_docs_need_torch_alone(tmp_path):
    page = (ROOT / 'docs/pytorch.md').read_text(encoding='utf-8')
    blocks = re.findall(r'```python\n(.*?)```', page, re.DOTALL)
    (tmp_path / 'example.py').write_text('\n'.join([PRELUDE, *blocks, CHECKS]))
    *values, modules = run(sys.executable, tmp_path / 'example.py').split('|')
    assert len(''.join(values).split()) == 4  # velocity, before, after, gap
    loaded = set(modules.split()) - {'mmfmkt.version', 'mmfmkt.models'}
    assert 'mmfmkt.models.flows.likelihood' in loaded
    assert {x.split('.')[2] for x in loaded} == {
        'bounds',
        'deprecation',
        'flows',
        'losses',
        'tensor_ops',
    }
