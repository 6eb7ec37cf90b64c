"""Export the student of a distillation checkpoint.

The export of FM-KT^Theta is a config and checkpoint for MMDetection or
MMPretrain, that of FM-KT is the student with its flow. Neither contains the
teacher.

    %(prog)s CONFIG CHECKPOINT [--out DIR]
"""

import argparse
from pathlib import Path

from mmfmkt.apis.train import checkpoint_guard
from mmfmkt.engine.export import export_student
from mmfmkt.utils.configs import read_config

from .options import add_cfg_options, make_parser


def build_parser(prog: str) -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = make_parser(__doc__, prog=prog)
    parser.add_argument('config', help='distillation config')
    parser.add_argument('checkpoint', help='checkpoint of the distillation')
    parser.add_argument(
        '--out',
        help='folder for student.py and student.pth; default: student/ in '
        'the folder of the checkpoint, or work_dirs/<config>/student for a '
        'URL',
    )
    add_cfg_options(parser)
    return parser


def default_folder(config: str, checkpoint: str) -> Path:
    """Return the output folder if ``--out`` is not given."""
    if '://' in checkpoint:
        return Path('work_dirs', Path(config).stem, 'student')
    return Path(checkpoint).parent / 'student'


def run(args: argparse.Namespace) -> None:
    """Export the student of a checkpoint."""
    config = read_config(args.config, args.cfg_options)
    out = args.out or default_folder(args.config, args.checkpoint)
    with checkpoint_guard(config):
        exported = export_student(config, args.checkpoint, out)
    print(exported.usage)
