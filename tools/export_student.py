"""Exports the student of a distillation checkpoint.

FM-KT^Theta gives a plain MMDetection config and checkpoint, FM-KT those of
student and flow; neither has a teacher.

    python tools/export_student.py CONFIG CHECKPOINT [--out DIR]
"""

import argparse
from pathlib import Path

import mmfmkt  # noqa: F401 (lets configs inherit from 'mmfmkt::...')
from mmfmkt.apis import export_student
from mmfmkt.apis.command_line import (
    add_cfg_options,
    parser_of,
    plain_errors,
    read_config,
)


def parse_args() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument('config', help='config of the distillation')
    parser.add_argument('checkpoint', help='its checkpoint')
    parser.add_argument(
        '--out',
        help='folder for student.py and student.pth; by default student/ '
        'beside the checkpoint, or in work_dirs/ and the name of the config '
        'where the checkpoint is a URL',
    )
    add_cfg_options(parser)
    return parser.parse_args()


def default_folder(config: str, checkpoint: str) -> Path:
    """Where an export goes that nobody has given a place."""
    if '://' in checkpoint:
        return Path('work_dirs', Path(config).stem, 'student')
    return Path(checkpoint).parent / 'student'


def main() -> None:
    args = parse_args()
    config = read_config(args.config, args.cfg_options)
    out = args.out or default_folder(args.config, args.checkpoint)
    exported = export_student(config, args.checkpoint, out)
    size = exported.checkpoint.stat().st_size / 2**20
    print(
        f'config:     {exported.config}\n'
        f'checkpoint: {exported.checkpoint} ({size:.1f} MiB)'
    )


if __name__ == '__main__':
    with plain_errors():
        main()
