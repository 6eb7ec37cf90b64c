"""What is installed, what there is to run, and where to go on.

python -m mmfmkt
python -m mmfmkt configs --variant theta --student resnet
"""

import argparse
from pathlib import Path
from typing import Iterator, List, Tuple

import torch
from mmengine.fileio import load
from rich.console import Console
from rich.table import Table

from mmfmkt import __version__
from mmfmkt.utils.stack import (
    STACK,
    installed_version,
    misfits,
    outside,
    training_faults,
)

PACKAGE = Path(__file__).parent
# The tree that the package is linked to, or what travels with it.
SHIPPED = PACKAGE / '.mim'
console = Console()


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='mmfmkt',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest='command')
    commands.add_parser('env', help='what is installed and fits (default)')
    configs = commands.add_parser('configs', help='list shipped configs')
    configs.add_argument(
        '--task', choices=('detection', 'classification'), help='of this task'
    )
    for name in ('variant', 'student', 'teacher'):
        configs.add_argument(
            f'--{name}', help=f'whose {name} has this in its name'
        )
    return parser.parse_args()


def faults_of(name: str, found: str) -> List[str]:
    """Why a library that is there will not do."""
    _, oldest, newest = STACK[name]
    if outside(found, oldest, newest):
        return [f'wanted: >={oldest},<{newest}']
    return [*misfits(name), *training_faults(name)]


def show_environment() -> bool:
    """Print what is installed; whether it is enough to distil."""
    table = Table(title=f'mmfmkt {__version__}', title_justify='left')
    for column in ('library', 'version', ''):
        table.add_column(column)
    good = {}
    for name in STACK:
        found = installed_version(name)
        faults = faults_of(name, found) if found else ['not installed']
        good[name] = not faults
        said = '; '.join(faults) or 'fits'
        table.add_row(
            name, found or '', said, style=None if good[name] else 'yellow'
        )
    devices = [
        torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())
    ]
    table.add_row('GPU', '', ', '.join(devices) or 'none: runs on the CPU')
    console.print(table)
    base = all(good[x] for x in ('torch', 'mmengine', 'mmcv'))
    for task, library in (
        ('Detectors', 'mmdet'),
        ('Classifiers', 'mmpretrain'),
    ):
        can = base and good[library]
        said = 'can be distilled' if can else f'want {library} (see above)'
        console.print(f'{task} {said}.')
    return base and (good['mmdet'] or good['mmpretrain'])


def listed() -> List[dict]:
    """Shipped configs, as the metafiles have them."""
    return [
        entry
        for name in load(SHIPPED / 'model-index.yml')['Import']
        for entry in load(SHIPPED / name)['Models']
    ]


def wanted(args: argparse.Namespace) -> Iterator[Tuple[str, dict]]:
    """Configs that are asked for, with what they are."""
    for entry in listed():
        told = entry['Metadata']
        classifies = '/mmpretrain/' in entry['Config']
        task = 'classification' if classifies else 'detection'
        if args.task not in (None, task):
            continue
        if all(
            getattr(args, name) is None
            or getattr(args, name).lower()
            in str(told.get(name.capitalize(), '')).lower()
            for name in ('variant', 'student', 'teacher')
        ):
            yield entry['Config'], told


def show_configs(args: argparse.Namespace) -> bool:
    """Print configs; whether there are some."""
    table = Table()
    for column in ('config', 'variant', 'student', 'teacher'):
        table.add_column(column, overflow='fold')
    found = list(wanted(args))
    for path, told in found:
        student = told.get('Student') or told.get('Network', '')
        cells = (
            told.get('Variant', 'plain'),
            student,
            told.get('Teacher', ''),
        )
        table.add_row(path, *map(str, cells))
    if not found:
        console.print('No shipped config is like that: leave an option out.')
        return False
    console.print(table)
    console.print(
        f'To train one: python tools/train.py {found[0][0]}\n'
        "To inherit from one: _base_ = 'mmfmkt::"
        f"{found[0][0].removeprefix('configs/')}'"
    )
    return True


def main() -> int:
    """Do what is asked for; 0 where there is something to go on with."""
    args = parse_args()
    if args.command == 'configs':
        return 0 if show_configs(args) else 1
    good = show_environment()
    console.print(
        'Next: python -m mmfmkt configs, '
        'python tools/distill.py --help, or the quick start: '
        'bash tools/quick_start.sh'
    )
    return 0 if good else 1


if __name__ == '__main__':
    raise SystemExit(main())
