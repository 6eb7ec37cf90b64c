"""Trains a model: a distillation, or anything else that MMDetection trains.

    python tools/train.py configs/fmkt_retinanet_r101_r50.py
"""

import argparse

from mmfmkt.apis.command_line import (
    add_run_arguments,
    build_runner,
    complete_distillation,
    load_config,
    plain_errors,
    use_amp,
)
from mmfmkt.datasets.checks import check_datasets
from mmfmkt.utils import ConfigError


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Train a model')
    parser.add_argument('config', help='path of the training config')
    parser.add_argument(
        '--amp', action='store_true', help='train in mixed precision')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate with the batch size')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='resume from a checkpoint; without a path, from the latest one '
        'in the work folder')
    add_run_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cfg = load_config(args)
    if args.amp:
        use_amp(cfg)
    if args.auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            raise ConfigError('--auto-scale-lr needs the config key '
                              'auto_scale_lr.base_batch_size.')
        cfg.auto_scale_lr.enable = True
    if args.resume:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume
    check_datasets(cfg, ('train', 'val'))
    complete_distillation(cfg)
    build_runner(cfg).train()


if __name__ == '__main__':
    with plain_errors():
        main()
