"""Flows and losses run beside PyTorch alone."""

import re
import sys

import pytest
from conftest import ROOT, run

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
)
PRELUDE = f"""
import sys
for name in {ABSENT}:
    sys.modules[name] = None  # importing it fails
from mmfmkt.models.flows import FMKT
"""


def run_alone(path, code):
    path.write_text(PRELUDE + code)
    return run(sys.executable, path)


@pytest.mark.slow
def test_the_example_of_the_docs_runs_without_any_other_library(tmp_path):
    page = (ROOT / 'docs/pytorch.md').read_text(encoding='utf-8')
    blocks = re.findall(r'```python\n(.*?)```', page, re.DOTALL)
    checks = "assert deployed.shape == (2, 64, 32, 32) and losses['loss_flow']"
    shown = run_alone(tmp_path / 'example.py', '\n'.join([*blocks, checks]))
    assert len(shown.split()) == 4  # velocity, before, after, gap


@pytest.mark.slow
def test_all_of_flows_and_losses_is_importable_without_them(tmp_path):
    output = run_alone(
        tmp_path / 'imports.py',
        """
import importlib, pkgutil
from mmfmkt.models import flows, losses
for room in (flows, losses):
    front = room.__name__ + '.'
    for module in pkgutil.walk_packages(room.__path__, front):
        importlib.import_module(module.name)
print(*[x for x in sys.modules if x.startswith('mmfmkt.') and sys.modules[x]])
""",
    )
    rooms = ('flows', 'losses', 'bounds', 'deprecation', 'tensor_ops')
    loaded = set(output.split()) - {'mmfmkt.version', 'mmfmkt.models'}
    assert 'mmfmkt.models.flows.likelihood' in loaded
    assert {x.split('.')[2] for x in loaded} == set(rooms)
