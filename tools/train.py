"""Trains a model: a distillation, or anything else that MMDetection trains.

    python tools/train.py configs/fmkt_retinanet_r101_r50.py
    python tools/train.py CONFIG --resume --cfg-options randomness.seed=1

The options are those of MMDetection's tool, and --check-teacher.
"""

import argparse

from mmfmkt.apis.command_line import (
    add_train_arguments,
    load_config,
    parser_of,
    plain_errors,
    train,
)
from mmfmkt.utils import ConfigError


def parse_args() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument('config', help='path of the training config')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate with the batch size',
    )
    add_train_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cfg = load_config(args)
    if args.auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            raise ConfigError(
                '--auto-scale-lr needs the config key '
                'auto_scale_lr.base_batch_size.'
            )
        cfg.auto_scale_lr.enable = True
    train(cfg, args)


if __name__ == '__main__':
    with plain_errors():
        main()
