"""List shipped configs, show one, or copy one.

    %(prog)s
    %(prog)s theta_retinanet_r101_r50
    %(prog)s theta_retinanet_r101_r50 --copy my_config.py

A copy inherits from packaged base configs ('mmfmkt::...'), so it works in any
folder.
"""

import argparse
import os
import os.path as osp
import re
import sys
from pathlib import Path

from mmfmkt.utils import ConfigError
from mmfmkt.utils.configs import SHIPPED, shipped_models
from mmfmkt.utils.files import write_atomically
from mmfmkt.utils.schema import did_you_mean

from .options import add_debug, make_parser

COLUMNS = ('variant', 'student', 'teacher')


def build_parser(prog: str) -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = make_parser(__doc__, prog=prog)
    parser.add_argument(
        'name', nargs='?', help='config to show, by name or path'
    )
    parser.add_argument(
        '--copy',
        type=Path,
        metavar='FILE',
        help='copy the config to this file',
    )
    add_debug(parser)
    return parser


def run(args: argparse.Namespace) -> None:
    """List, show or copy configs."""
    if args.name is None and args.copy:
        raise ConfigError('--copy needs the name of a config, got none.')
    try:
        if args.name is None:
            show_list(args)
        elif args.copy:
            copy_config(find_config(args.name), args.copy)
        else:
            print(find_config(args.name).read_text(encoding='utf-8'), end='')
        sys.stdout.flush()
    except BrokenPipeError:  # as in `mmfmkt configs | head`
        # Python flushes the output once more when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def find_config(name: str) -> Path:
    """Return the file of a shipped config.

    Args:
        name (str): File name, path below ``configs/``, or ``mmfmkt::...``.

    Raises:
        ConfigError: If no config or several configs match.
    """
    stem = name.removeprefix('mmfmkt::').removeprefix('configs/')
    stem = stem.removesuffix('.py')
    shipped = [Path(x['Config']) for x in shipped_models()]
    matches = [x for x in shipped if x == Path('configs', f'{stem}.py')]
    matches = matches or [x for x in shipped if x.stem == stem]
    if not matches:
        raise ConfigError(
            f'There is no shipped config {name!r}'
            f'{did_you_mean(name, [x.stem for x in shipped])}.'
        )
    if len(matches) > 1:
        paths = ', '.join(x.relative_to('configs').as_posix() for x in matches)
        raise ConfigError(f'{name!r} is ambiguous; use one of {paths}.')
    return SHIPPED / matches[0]


def copy_config(source: Path, target: Path) -> None:
    """Copy a config; the copy names its base configs ``mmfmkt::...``.

    Raises:
        ConfigError: If the target exists.
    """
    if target.exists():
        raise ConfigError(f'--copy: the file {str(target)!r} exists.')

    def replace_base(base: re.Match) -> str:
        path = Path(osp.normpath(source.parent / base[1]))
        return repr(packaged_name(path.relative_to(SHIPPED)))

    text = source.read_text(encoding='utf-8')
    # Shipped configs name their base configs './...' or '../...'.
    write_atomically(target, re.sub(r"'(\.\.?/.+?\.py)'", replace_base, text))
    print(f'config: {target}')


def packaged_name(path: Path) -> str:
    """Return the name ``mmfmkt::...`` of a shipped config.

    Args:
        path (Path): Path of the config, which starts with ``configs/``.
    """
    name = path.relative_to('configs').as_posix()
    # MMEngine requires a folder in the name.
    return f'mmfmkt::{name if "/" in name else f"_base_/../{name}"}'


def show_list(args: argparse.Namespace) -> None:
    """Print a table of configs, one line for each."""
    entries = shipped_models()
    rows = [('config', *COLUMNS)]
    for entry in entries:
        metadata = entry['Metadata']
        rows.append(
            (
                entry['Config'],
                metadata.get('Variant', 'none'),
                str(metadata.get('Student') or metadata.get('Network', '')),
                str(metadata.get('Teacher', '')),
            )
        )
    # One line for each config, also if the terminal is narrow.
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        cells = (x.ljust(width) for x, width in zip(row, widths))
        print('  '.join(cells).rstrip())
    # Example commands with the first config.
    path = Path(entries[0]['Config'])
    name = packaged_name(path)
    print(
        f'train:   mmfmkt train {name}\n'
        f"inherit: _base_ = '{name}'\n"
        f'copy:    mmfmkt configs {path} --copy FILE'
    )
