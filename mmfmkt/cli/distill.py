"""Distill any detector or classifier into any other.

    %(prog)s mmdet::atss/atss_r50_fpn_1x_coco.py \\
        --teacher mmdet::atss/atss_r101_fpn_1x_coco.py \\
        --teacher-checkpoint https://...

Composes a distillation config from both configs, prints its settings, writes
it to the work directory and trains it. The config can be edited and inherited.
"""

import argparse
from pathlib import Path

from mmfmkt.apis import compose_distillation
from mmfmkt.apis.train import checkpoint_guard
from mmfmkt.models import flows
from mmfmkt.models.distillers.networks import (
    build_network,
    load_model_config,
)
from mmfmkt.models.flows import VARIANTS, MetaEncoder
from mmfmkt.utils.error_messages import errors_as_config_errors

from .options import (
    add_flags,
    add_pair_arguments,
    add_train_arguments,
    composing_folder,
    int_at_least,
    load_composed,
    make_parser,
    pair_name,
)
from .train import train_by_options

# Names of the encoders of mmfmkt.
ENCODERS = [
    name
    for name, part in vars(flows).items()
    if isinstance(part, type)
    and issubclass(part, MetaEncoder)
    and part is not MetaEncoder
]


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
        'distillation loss alone, and export them for use in init_cfg',
    )
    parser.add_argument(
        '--encoder',
        choices=ENCODERS,
        help="the flow's encoder (default for detectors: the preset's; for "
        'classifiers: the largest that adds at most 5%% FLOPs to the student)',
    )
    parser.add_argument(
        '--inference-steps',
        type=int_at_least(1),
        metavar='K',
        help='number of Euler steps of the deployed flow (default: chosen '
        'like --encoder)',
    )
    dry_run = 'write the config and build the model without training'
    add_flags(parser, {'--dry-run': dry_run})
    add_train_arguments(parser)
    return parser


def run(args: argparse.Namespace) -> None:
    """Compose a distillation and train it."""
    if args.variant is None:
        args.variant = 'theta' if args.unlabelled else 'fmkt'
    name = pair_name(args.variant, args)
    args.work_dir = args.work_dir or str(Path('work_dirs', name))
    with composing_folder(args) as folder:
        composed = compose_distillation(
            args.student,
            args.teacher,
            folder / f'{name}.py',
            teacher_checkpoint=args.teacher_checkpoint,
            variant=args.variant,
            data_root=args.data_root,
            class_maps=args.class_maps,
            teacher_scale=args.teacher_scale,
            unlabelled=args.unlabelled,
            encoder=args.encoder,
            inference_steps=args.inference_steps,
            cfg_options=args.cfg_options,
        )
        cfg = load_composed(composed, args)
        if not args.dry_run:
            train_by_options(cfg, args)
            return
        with checkpoint_guard(cfg), errors_as_config_errors(cfg):
            model = load_model_config(cfg, 'model')
            build_network(model, cfg.get('default_scope'))
