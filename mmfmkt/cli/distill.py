"""Distill any detector or classifier into any other.

    %(prog)s mmdet::atss/atss_r50_fpn_1x_coco.py \\
        --teacher mmdet::atss/atss_r101_fpn_1x_coco.py \\
        --teacher-checkpoint https://...

Composes a distillation config from the two, prints its settings, writes it to
the work directory and trains it. The config can be edited and inherited.
"""

import argparse
import os
from pathlib import Path
from tempfile import TemporaryDirectory

from mmengine.config import Config

from mmfmkt.apis import compose_distillation
from mmfmkt.apis.train import build_model
from mmfmkt.models.flows import VARIANTS

from .options import (
    add_pair_arguments,
    add_train_arguments,
    load_config,
    make_parser,
    pair_name,
)
from .train import train_by_options


def build_parser(prog: str) -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = make_parser(__doc__, prog=prog)
    add_pair_arguments(parser)
    parser.add_argument(
        '--variant',
        choices=tuple(VARIANTS),
        help='distillation method (default: fmkt; theta with --unlabelled)',
    )
    parser.add_argument(
        '--unlabelled',
        metavar='FOLDER',
        help='train backbone and neck on images without annotations by the '
        'transfer alone, and export them for init_cfg',
    )
    parser.add_argument(
        '--dry-run',
        action='store_true',
        help='write the config and build the model without training',
    )
    add_train_arguments(parser)
    return parser


def rank_of(launcher: str) -> int:
    """Return this process's rank before the process group exists."""
    names = dict(
        pytorch='RANK', slurm='SLURM_PROCID', mpi='OMPI_COMM_WORLD_RANK'
    )
    return int(os.environ.get(names.get(launcher, ''), 0))


def compose(args: argparse.Namespace, folder: Path) -> Config:
    """Compose the config in a folder, print its settings and read it."""
    composed = compose_distillation(
        args.student,
        args.teacher,
        folder / f'{pair_name(args.variant, args)}.py',
        teacher_checkpoint=args.teacher_checkpoint,
        variant=args.variant,
        data_root=args.data_root,
        class_maps=args.class_maps,
        teacher_scale=args.teacher_scale,
        unlabelled=args.unlabelled,
    )
    if rank_of(args.launcher) == 0:
        print('\n'.join(composed.summary))
        print(f'config    {composed.config}')
    args.config = str(composed.config)
    return load_config(args)


def run(args: argparse.Namespace) -> None:
    """Compose a distillation and train it."""
    if args.variant is None:
        args.variant = 'theta' if args.unlabelled else 'fmkt'
    args.work_dir = args.work_dir or str(
        Path('work_dirs', pair_name(args.variant, args))
    )
    if rank_of(args.launcher) == 0:
        cfg = compose(args, Path(args.work_dir))
    else:
        # Only rank 0 writes to the work directory.
        with TemporaryDirectory() as folder:
            cfg = compose(args, Path(folder))
    if args.dry_run:
        build_model(cfg)
    else:
        train_by_options(cfg, args)
