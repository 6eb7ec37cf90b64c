"""Check libraries, operators and devices.

The exit status is 1 if neither detectors nor classifiers can be distilled.
"""

import argparse
import platform
from importlib.util import find_spec
from typing import Iterator, List, Tuple

from mmfmkt.utils.stack import (
    STACK,
    installed_version,
    usability_problems,
)
from mmfmkt.version import __version__

# Library of each type of network.
LIBRARIES = {'detectors': 'mmdet', 'classifiers': 'mmpretrain'}
# Subpackages that import most of a library; the top-level package does not.
MAIN_PACKAGES = {'mmdet': 'mmdet.models', 'mmpretrain': 'mmpretrain.models'}
Row = Tuple[str, str, str]


def build_parser(prog: str) -> argparse.ArgumentParser:
    """Return the parser of the command."""
    return argparse.ArgumentParser(prog=prog, description=__doc__)


def run(args: argparse.Namespace) -> int:
    """Print a table of the checks; return 1 if nothing can be distilled."""
    rows: List[Row] = [
        ('mmfmkt', __version__, ''),
        ('Python', platform.python_version(), platform.platform()),
    ]
    problems = {name: problems_of(name) for name in ('pydantic', *STACK)}
    for name, reasons in problems.items():
        version = installed_version(name) or '-'
        rows.append((name, version, '; '.join(reasons) or 'ok'))
    rows += devices() if not problems['torch'] else []
    width = [max(len(row[i]) for row in rows) for i in (0, 1)]
    for name, version, text in rows:
        print(f'{name:{width[0]}}  {version:{width[1]}}  {text}'.rstrip())
    base = ('pydantic', 'torch', 'mmengine', 'mmcv')
    available = []
    for networks, library in LIBRARIES.items():
        broken = [x for x in (*base, library) if problems[x]]
        available.append(not broken)
        print(
            f'{networks} cannot be distilled: see {", ".join(broken)}'
            if broken
            else f'{networks} can be distilled'
        )
    if any(available):
        print('next: mmfmkt configs, mmfmkt distill --help')
    return 0 if any(available) else 1


def problems_of(name: str) -> List[str]:
    """Return the reasons why a library cannot be used."""
    if installed_version(name) is None:
        return ['not installed']
    problems = usability_problems(name)
    if not problems and name in MAIN_PACKAGES:
        problems = usability_problems(MAIN_PACKAGES[name])
    return problems


def devices() -> Iterator[Row]:
    """Yield a row per device: memory, and whether mmcv's operators work."""
    import torch

    yield 'CPU', f'{torch.get_num_threads()} threads', operators('cpu')
    for index in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(index)
        memory = f'{gpu.total_memory / 2**30:.0f} GiB'
        text = f'{gpu.name}, {operators(f"cuda:{index}")}'
        yield f'GPU {index}', memory, text


def operators(device: str) -> str:
    """Return whether mmcv's compiled operators work on a device."""
    if find_spec('mmcv') is None:
        return 'mmcv is not installed'
    try:
        import torch
        from mmcv.ops import nms

        boxes = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 8]], device=device)
        num_kept = len(nms(boxes, boxes.new_tensor([1, 0.5]), 0.5)[1])
    except Exception as error:  # a broken build may raise anything
        return f'mmcv.ops fail: {" ".join(str(error).split())[:200]}'
    return 'mmcv.ops ok' if num_kept == 1 else 'mmcv.ops give wrong results'
