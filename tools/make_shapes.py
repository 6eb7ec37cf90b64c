"""Create the synthetic shapes dataset in COCO format.

    python tools/make_shapes.py data/shapes --train 960 --val 160 --size 96 96

The same options give the same files. A folder with these files is kept.
"""

import argparse
from pathlib import Path

from mmengine.logging import print_log

from mmfmkt.cli.options import make_parser
from mmfmkt.datasets import make_shapes


def build_parser() -> argparse.ArgumentParser:
    parser = make_parser(__doc__, defaults=True)
    parser.add_argument('root', type=Path, help='output folder; it is created')
    parser.add_argument(
        '--train',
        type=int,
        default=600,
        metavar='N',
        help='number of training images',
    )
    parser.add_argument(
        '--val',
        type=int,
        default=200,
        metavar='N',
        help='number of validation images',
    )
    parser.add_argument(
        '--size',
        type=int,
        nargs=2,
        default=(160, 160),
        metavar=('W', 'H'),
        help='width and height of the images in pixels, at least 32',
    )
    parser.add_argument('--seed', type=int, default=0, help='random seed')
    parser.add_argument(
        '--object-size',
        type=float,
        nargs=2,
        default=(0.04, 0.5),
        metavar=('MIN', 'MAX'),
        help='smallest and largest diameter of objects relative to the '
        'short image side',
    )
    return parser


def main() -> None:
    parser = build_parser()
    args = parser.parse_args()
    try:
        root = make_shapes(
            args.root,
            num_train=args.train,
            num_val=args.val,
            image_size=args.size,
            seed=args.seed,
            object_size=args.object_size,
        )
    except ValueError as error:
        parser.error(str(error))
    print_log(
        f'Dataset of {args.train} training and {args.val} validation '
        f'images: {root}'
    )


if __name__ == '__main__':
    main()
