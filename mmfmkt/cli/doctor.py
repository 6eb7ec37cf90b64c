"""Checks libraries, operators and devices, and says what to install.

Ends with status 1 where neither detectors nor classifiers can be distilled.
"""

import argparse
import platform
from importlib import import_module
from importlib.util import find_spec
from typing import Iterator, List, Tuple

from mmfmkt.utils import stack
from mmfmkt.utils.stack import STACK, installed_version
from mmfmkt.version import __version__

LIBRARIES = {'detectors': 'mmdet', 'classifiers': 'mmpretrain'}
# What commands need beside the stack; import names by extra.
EXTRAS = {
    'report': ('plotly', 'jinja2', 'matplotlib'),
    'onnx': ('onnx', 'onnxruntime', 'onnxscript'),
    'likelihood': ('torchdiffeq',),
}
# What is imported of a library where its top imports next to nothing.
PARTS = {'mmdet': 'mmdet.models', 'mmpretrain': 'mmpretrain.models'}
Row = Tuple[str, str, str]


def build_parser(prog: str) -> argparse.ArgumentParser:
    """Return the parser of the command."""
    return argparse.ArgumentParser(prog=prog, description=__doc__)


def run(args: argparse.Namespace) -> int:
    """Print the findings; return 1 if nothing can be distilled."""
    rows: List[Row] = [
        ('mmfmkt', __version__, ''),
        ('Python', platform.python_version(), platform.platform()),
    ]
    faults = {name: faults_of(name) for name in ('pydantic', *STACK)}
    for name, found in faults.items():
        version = installed_version(name) or '-'
        rows.append((name, version, '; '.join(found) or 'ok'))
    rows += devices() if not faults['torch'] else []
    rows += extras()
    width = [max(len(row[i]) for row in rows) for i in (0, 1)]
    for name, version, text in rows:
        print(f'{name:{width[0]}}  {version:{width[1]}}  {text}'.rstrip())
    base = ('pydantic', 'torch', 'mmengine', 'mmcv')
    able = []
    for kind, library in LIBRARIES.items():
        wrong = [x for x in (*base, library) if faults[x]]
        able.append(not wrong)
        print(
            f'{kind} can be distilled'
            if not wrong
            else f'{kind} cannot be distilled: see {", ".join(wrong)}'
        )
    if any(able):
        print('next: mmfmkt configs, mmfmkt distill --help')
    return 0 if any(able) else 1


def faults_of(name: str) -> List[str]:
    """Return why a library is not usable."""
    if installed_version(name) is None:
        return ['not installed']
    if name in STACK and (faults := stack.usability_problems(name)):
        return faults
    try:
        import_module(PARTS.get(name, name))
    except Exception as error:  # a broken install may raise any
        return [f'import fails: {one_line(error)}']
    return []


def one_line(error: Exception) -> str:
    """Return the message of an error on one line."""
    return ' '.join(str(error).split())[:200]


def devices() -> Iterator[Row]:
    """Yield a row a device, with what its operators compute."""
    import torch

    yield 'CPU', f'{torch.get_num_threads()} threads', operators('cpu')
    for index in range(torch.cuda.device_count()):
        found = torch.cuda.get_device_properties(index)
        memory = f'{found.total_memory / 2**30:.0f} GiB'
        text = f'{found.name}, {operators(f"cuda:{index}")}'
        yield f'GPU {index}', memory, text


def operators(device: str) -> str:
    """Return whether mmcv's compiled operators run on a device."""
    if find_spec('mmcv') is None:
        return 'mmcv is not installed'
    try:
        import torch
        from mmcv.ops import nms

        boxes = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 8]], device=device)
        kept = len(nms(boxes, boxes.new_tensor([1, 0.5]), 0.5)[1])
    except Exception as error:  # a fault of a build may be any
        return f'mmcv.ops fail: {one_line(error)}'
    return 'mmcv.ops ok' if kept == 1 else 'mmcv.ops compute nonsense'


def extras() -> Iterator[Row]:
    """Yield a row an extra that is not complete."""
    for extra, names in EXTRAS.items():
        missing = [name for name in names if find_spec(name) is None]
        if missing:
            text = f'{", ".join(missing)} missing: pip install'
            yield extra, 'extra', f"{text} 'mmfmkt[{extra}]'"
