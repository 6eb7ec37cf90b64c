"""Shows runs in one HTML page: curves, detections, feature maps, walks.

    python tools/report.py work_dirs/plain work_dirs/fmkt --out report.html
    python tools/report.py work_dirs/fmkt --steps 1 2 4 8

Takes work folders of trainings, finished or running, plain ones beside
distillations; detections are compared with those of the first. The page opens
without a network.
"""

import argparse

from mmfmkt.apis.command_line import add_debug, parser_of, plain_errors
from mmfmkt.visualization.report import read_work_dir, write_report


def parse_args() -> argparse.Namespace:
    parser = parser_of(__doc__)
    add = parser.add_argument
    add('work_dirs', nargs='+', metavar='WORK_DIR', help='of a training')
    add('--out', default='report.html', help='HTML file (%(default)s)')
    add(
        '--images',
        type=int,
        default=6,
        help='validation images to show (%(default)s)',
    )
    add(
        '--steps',
        type=int,
        nargs='+',
        default=(),
        metavar='K',
        help='evaluate students with a flow at each of these K',
    )
    add(
        '--no-look',
        action='store_true',
        help='logs alone: load no checkpoint',
    )
    add_debug(parser)
    args = parser.parse_args()
    if args.images < 1 or min(args.steps, default=1) < 1:
        parser.error('--images and --steps must be 1 or more')
    return args


def main() -> None:
    args = parse_args()
    runs = [read_work_dir(x) for x in args.work_dirs]
    path = write_report(
        runs, args.out, args.images, args.steps, not args.no_look
    )
    print(f'{path} ({path.stat().st_size / 2**20:.1f} MiB)')


if __name__ == '__main__':
    with plain_errors():
        main()
