"""Train a distillation or any other config of MMEngine.

    %(prog)s configs/fmkt_retinanet_r101_r50.py
    %(prog)s mmfmkt::retinanet/theta_retinanet_r101_r50.py --amp
    %(prog)s CONFIG --resume --cfg-options randomness.seed=1
    %(prog)s mmdet::retinanet/retinanet_r50_fpn_1x_coco.py --data-root FOLDER

Has the options of MMDetection's and MMPretrain's train.py, and --data-root,
--check-teacher and --last.
"""

import argparse
from pathlib import Path

from mmengine.config import Config

from mmfmkt.apis.distill import compose_training
from mmfmkt.apis.train import train
from mmfmkt.utils.error_messages import errors_as_config_errors

from .options import (
    add_data_root,
    add_train_arguments,
    composing_folder,
    load_composed,
    load_config,
    make_parser,
    set_dataloaders,
)


def build_parser(prog: str) -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = make_parser(__doc__, prog=prog)
    parser.add_argument(
        'config', help="config file, or a shipped config 'mmfmkt::...'"
    )
    add_data_root(parser)
    add_train_arguments(parser)
    return parser


def run(args: argparse.Namespace) -> None:
    """Train a config."""
    if not args.data_root:
        return train_by_options(load_config(args), args)
    name = f'{Path(args.config).stem}_{Path(args.data_root).resolve().name}'
    name = name.split('::')[-1]
    args.work_dir = args.work_dir or str(Path('work_dirs', name))
    with composing_folder(args) as folder:
        composed = compose_training(
            args.config, args.data_root, folder / f'{name}.py'
        )
        return train_by_options(load_composed(composed, args), args)


def train_by_options(cfg: Config, args: argparse.Namespace) -> None:
    """Train with the options of `add_train_arguments`."""
    with errors_as_config_errors(cfg):
        if args.auto_scale_lr:
            cfg.merge_from_dict({'auto_scale_lr.enable': True})
        set_dataloaders(cfg, args)
    train(cfg, args.resume, args.amp, args.check_teacher, args.last)
