"""Exports the student of a distillation checkpoint.

FM-KT^Theta gives a plain MMDetection config and checkpoint, FM-KT those of
student and flow; neither has a teacher.

    %(prog)s CONFIG CHECKPOINT [--out DIR]
"""

import argparse
from pathlib import Path

from mmfmkt.engine.export import export_student
from mmfmkt.utils.configs import read_config

from .options import add_cfg_options, parser_of


def build_parser(prog: str) -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = parser_of(__doc__, prog=prog)
    parser.add_argument('config', help='config of the distillation')
    parser.add_argument('checkpoint', help='its checkpoint')
    parser.add_argument(
        '--out',
        help='folder for student.py and student.pth; by default student/ '
        'beside the checkpoint, or in work_dirs/ and the name of the config '
        'where the checkpoint is a URL',
    )
    add_cfg_options(parser)
    return parser


def default_folder(config: str, checkpoint: str) -> Path:
    """Where an export goes that nobody has given a place."""
    if '://' in checkpoint:
        return Path('work_dirs', Path(config).stem, 'student')
    return Path(checkpoint).parent / 'student'


def run(args: argparse.Namespace) -> None:
    """Export the student of a checkpoint."""
    config = read_config(args.config, args.cfg_options)
    out = args.out or default_folder(args.config, args.checkpoint)
    exported = export_student(config, args.checkpoint, out)
    size = exported.checkpoint.stat().st_size / 2**20
    if exported.config is None:
        print(exported.usage)
        return
    print(
        f'config:     {exported.config}\n'
        f'checkpoint: {exported.checkpoint} ({size:.1f} MiB)'
    )
