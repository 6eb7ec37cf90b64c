"""Write an HTML report of training runs: curves, detections, feature maps.

    %(prog)s work_dirs/baseline work_dirs/fmkt --out report.html
    %(prog)s work_dirs/fmkt --steps 1 2 4 8

WORK_DIR is the work directory of a finished or running training, of a baseline
or a distillation. Detections are compared with those of the first training.
The page needs no network connection.
"""

import argparse
from importlib import import_module
from types import ModuleType

from mmfmkt.utils.extras import import_extra

from .options import add_debug, add_steps, int_at_least, make_parser


def build_parser(prog: str) -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = make_parser(__doc__, prog=prog)
    add = parser.add_argument
    add('work_dirs', nargs='+', metavar='WORK_DIR', help='work directories')
    add(
        '--out', default='report.html', help='HTML file (default: %(default)s)'
    )
    add(
        '--images',
        type=int_at_least(1),
        default=6,
        help='number of validation images (default: %(default)s)',
    )
    add_steps(parser)
    add(
        '--logs-only',
        action='store_true',
        help='load no checkpoints: show curves and configs only',
    )
    add_debug(parser)
    return parser


def import_report() -> ModuleType:
    """Import ``mmfmkt.visualization.report``.

    Raises:
        ConfigError: If a library of the extra 'report' is not installed.
    """
    for name in ('plotly', 'jinja2', 'matplotlib'):
        import_extra(name, 'report')
    return import_module('mmfmkt.visualization.report')


def run(args: argparse.Namespace) -> None:
    """Write the report."""
    report = import_report()
    runs = [report.read_work_dir(x) for x in args.work_dirs]
    path = report.write_report(
        runs, args.out, args.images, args.steps, not args.logs_only
    )
    print(f'{path} ({path.stat().st_size / 2**20:.1f} MiB)')
