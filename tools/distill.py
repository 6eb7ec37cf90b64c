"""Distils any detector or classifier into any other, in one line.

    python tools/distill.py mmdet::atss/atss_r50_fpn_1x_coco.py \
        --teacher mmdet::atss/atss_r101_fpn_1x_coco.py \
        --teacher-checkpoint https://...

Composes a config from the two, shows what it decided, writes the config to
the work folder, where it can be edited and inherited, and trains.
"""

import argparse
import re
from pathlib import Path

from mmfmkt.apis.command_line import (
    add_run_arguments,
    build_runner,
    complete_distillation,
    load_config,
    plain_errors,
    use_amp,
)
from mmfmkt.apis.distill import compose_distillation
from mmfmkt.datasets.checks import check_datasets
from mmfmkt.models.flows import VARIANTS


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Compose a distillation from two configs and train it')
    parser.add_argument(
        'student', help="the student's config: a file, or 'mmdet::...'")
    parser.add_argument(
        '--teacher', help="the teacher's config; none for online")
    parser.add_argument(
        '--teacher-checkpoint',
        help='path or URL; without one the teacher has random weights')
    parser.add_argument(
        '--variant', choices=tuple(VARIANTS), default='fmkt')
    parser.add_argument(
        '--data-root',
        help='folder in COCO format to train on, in the place of the data '
        "set of the student's config")
    parser.add_argument(
        '--dry-run',
        action='store_true',
        help='stop before training, with the config written')
    parser.add_argument(
        '--amp', action='store_true', help='train in mixed precision')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='resume from a checkpoint; without a path, from the latest one '
        'in the work folder')
    add_run_arguments(parser)
    return parser.parse_args()


def name_of(args: argparse.Namespace) -> str:
    """A file name that says what is distilled into what."""
    parts = [args.variant, args.teacher, args.student]
    return '_'.join(
        re.sub(r'[^\w.-]', '-', Path(x.split('::')[-1]).stem)
        for x in parts if x)


def main() -> None:
    args = parse_args()
    folder = Path(args.work_dir or Path('work_dirs', name_of(args)))
    composed = compose_distillation(
        args.student,
        args.teacher,
        folder / f'{name_of(args)}.py',
        teacher_checkpoint=args.teacher_checkpoint,
        variant=args.variant,
        data_root=args.data_root)
    print('\n'.join(composed.decisions))
    print(f'config    {composed.config}')
    if args.dry_run:
        return
    args.config, args.work_dir = str(composed.config), str(folder)
    cfg = load_config(args)
    if args.amp:
        use_amp(cfg)
    if args.resume:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume
    check_datasets(cfg, ('train', 'val'))
    complete_distillation(cfg)
    build_runner(cfg).train()


if __name__ == '__main__':
    with plain_errors():
        main()
