r"""Convert a published CIFAR checkpoint for MMPretrain.

Converts a checkpoint of RepDistiller or mdistiller, such as a teacher, to a
checkpoint of MMPretrain's ImageClassifier whose backbone is in mmfmkt.

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
    parser.add_argument('dst', help='output file')
    parser.add_argument(
        '--model',
        required=True,
        metavar='NAME',
        help=f'published name of the network: {", ".join(NETWORKS)}',
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
