"""Shows runs in one HTML page: curves, detections, feature maps, walks.

    %(prog)s work_dirs/plain work_dirs/fmkt --out report.html
    %(prog)s work_dirs/fmkt --steps 1 2 4 8

Takes work folders of trainings, finished or running, plain ones beside
distillations; detections are compared with those of the first. The page opens
without a network.
"""

import argparse

from mmfmkt.utils.extras import import_extra

from .options import add_debug, int_at_least, make_parser


def build_parser(prog: str) -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = make_parser(__doc__, prog=prog)
    add = parser.add_argument
    add('work_dirs', nargs='+', metavar='WORK_DIR', help='of a training')
    add('--out', default='report.html', help='HTML file (%(default)s)')
    add(
        '--images',
        type=int_at_least(1),
        default=6,
        help='validation images to show (%(default)s)',
    )
    add(
        '--steps',
        type=int_at_least(1),
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
    return parser


def run(args: argparse.Namespace) -> None:
    """Write the page."""
    for name in ('plotly', 'jinja2', 'matplotlib'):
        import_extra(name, 'report')
    from mmfmkt.visualization.report import read_work_dir, write_report

    runs = [read_work_dir(x) for x in args.work_dirs]
    path = write_report(
        runs, args.out, args.images, args.steps, not args.no_look
    )
    print(f'{path} ({path.stat().st_size / 2**20:.1f} MiB)')
