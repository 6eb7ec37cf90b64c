"""Distills any detector or classifier into any other, in one line.

    %(prog)s mmdet::atss/atss_r50_fpn_1x_coco.py \\
        --teacher mmdet::atss/atss_r101_fpn_1x_coco.py \\
        --teacher-checkpoint https://...

Composes a config from the two, shows what it decided, writes the config to
the work folder, where it can be edited and inherited, and trains.
"""

import argparse
import os
import re
from pathlib import Path
from tempfile import TemporaryDirectory

from mmengine.config import Config

from mmfmkt.apis import compose_distillation
from mmfmkt.apis.train import build_model
from mmfmkt.models.flows import VARIANTS

from .options import add_train_arguments, load_config, parser_of
from .train import train_by_options


def build_parser(prog: str) -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = parser_of(__doc__, prog=prog)
    parser.add_argument(
        'student', help="the student's config: a file, or 'mmdet::...'"
    )
    parser.add_argument(
        '--teacher', help="the teacher's config; none for online"
    )
    parser.add_argument(
        '--teacher-checkpoint',
        help='path or URL; without one the teacher has random weights',
    )
    parser.add_argument(
        '--teacher-scale',
        type=float,
        help="side of the teacher's images, relative to the student's "
        '(default: 1, or what makes a grid of patches fit a stride of the '
        'student)',
    )
    parser.add_argument(
        '--variant',
        choices=tuple(VARIANTS),
        help='how the flow is used (default: fmkt; theta with --unlabelled)',
    )
    parser.add_argument(
        '--data-root',
        help='folder in COCO format to train on, in the place of the data '
        "set of the student's config",
    )
    parser.add_argument(
        '--unlabelled',
        metavar='FOLDER',
        help='train backbone and neck on a folder of images without labels, '
        'by the transfer alone; the export is a checkpoint for init_cfg',
    )
    parser.add_argument(
        '--class-maps',
        action='store_true',
        help="let the class maps of both detectors' dense heads flow too; "
        'for heads of the same kind',
    )
    parser.add_argument(
        '--dry-run',
        action='store_true',
        help='stop before training, with the config written',
    )
    add_train_arguments(parser)
    return parser


def name_of(args: argparse.Namespace) -> str:
    """A file name that says what is distilled into what."""
    parts = [args.variant, args.teacher, args.student]
    return '_'.join(
        re.sub(r'[^\w.-]', '-', Path(x.split('::')[-1]).stem)
        for x in parts
        if x
    )


def rank_of(launcher: str) -> int:
    """The rank of this process, before there is a group of processes."""
    names = dict(
        pytorch='RANK', slurm='SLURM_PROCID', mpi='OMPI_COMM_WORLD_RANK'
    )
    return int(os.environ.get(names.get(launcher, ''), 0))


def compose(args: argparse.Namespace, folder: Path) -> Config:
    """Compose the config in a folder, say what was decided and read it."""
    composed = compose_distillation(
        args.student,
        args.teacher,
        folder / f'{name_of(args)}.py',
        teacher_checkpoint=args.teacher_checkpoint,
        variant=args.variant,
        data_root=args.data_root,
        class_maps=args.class_maps,
        teacher_scale=args.teacher_scale,
        unlabelled=args.unlabelled,
    )
    if rank_of(args.launcher) == 0:
        print('\n'.join(composed.decisions))
        print(f'config    {composed.config}')
    args.config = str(composed.config)
    return load_config(args)


def run(args: argparse.Namespace) -> None:
    """Compose a distillation and train it."""
    if args.variant is None:
        args.variant = 'theta' if args.unlabelled else 'fmkt'
    args.work_dir = args.work_dir or str(Path('work_dirs', name_of(args)))
    if rank_of(args.launcher) == 0:
        cfg = compose(args, Path(args.work_dir))
    else:
        # One rank writes for all; what the others compose is the same.
        with TemporaryDirectory() as folder:
            cfg = compose(args, Path(folder))
    if args.dry_run:
        build_model(cfg)
    else:
        train_by_options(cfg, args)
