"""Converts a published CIFAR checkpoint into one of MMPretrain.

Checkpoints of RepDistiller's and mdistiller's networks, for instance their
teachers; the result fits MMPretrain's ImageClassifier on the same network of
mmfmkt. Only convert what comes from someone you trust: loading a checkpoint
can run code.

    python tools/convert_checkpoint.py ckpt_epoch_240.pth \
        checkpoints/resnet56_cifar100.pth --model resnet56
"""

import argparse

from mmfmkt.apis import convert_checkpoint
from mmfmkt.apis.convert import NETWORKS
from mmfmkt.cli.errors import exit_on_error
from mmfmkt.cli.options import add_debug, make_parser


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument('src', help='path or URL of the checkpoint')
    parser.add_argument('dst', help='file to write')
    parser.add_argument(
        '--model',
        required=True,
        metavar='NAME',
        help=f'the network, by its published name: {", ".join(NETWORKS)}',
    )
    add_debug(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    dst = convert_checkpoint(args.src, args.dst, args.model)
    print(f'checkpoint: {dst} ({dst.stat().st_size / 2**20:.1f} MiB)')


if __name__ == '__main__':
    with exit_on_error():
        main()
