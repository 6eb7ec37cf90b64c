"""Tries every family of the installed libraries as a student.

    python tools/dev/coverage/coverage_sweep.py --out coverage.json

For the smallest config of each family in MMDetection's and MMPretrain's model
index that this machine can train, on a tiny data set and through a Runner:

- ``equivalence``: as the student of a distiller whose transfer weighs nothing
  it must train bit for bit as it does alone.
- ``variants``: as FM-KT^Theta and as FM-KT it trains, predicts, and comes
  home to the library's own tools.

Each check has a process of its own. What is done stays done: the same command
continues.
"""

import argparse
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from sweep.families import LIBRARIES, families
from sweep.report import report
from sweep.runs import Results, check_all

from mmfmkt.cli.options import make_parser

CHECKS = ('equivalence', 'variants')
DONE = ('equal', 'passed', 'cannot apply')


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__, defaults=True)
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('work_dirs/coverage.json'),
        help='file of the results; what is in it is not tried again; the '
        'table is written beside it',
    )
    parser.add_argument(
        '--library',
        nargs='+',
        choices=LIBRARIES,
        default=LIBRARIES,
        help='whose families to try',
    )
    parser.add_argument(
        '--families', nargs='+', help='families to try (default: all)'
    )
    parser.add_argument(
        '--checks',
        nargs='+',
        choices=CHECKS,
        default=CHECKS,
        help='what to check',
    )
    parser.add_argument(
        '--retry', action='store_true', help='try again what has not passed'
    )
    parser.add_argument(
        '--jobs', type=int, default=1, help='processes at the same time'
    )
    parser.add_argument(
        '--timeout',
        type=float,
        default=600,
        help='seconds for one config and check',
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    results = Results(args.out)
    known = [x for library in args.library for x in families(library)]
    todo = []
    for check in args.checks:
        for family in known:
            before = results.get(family, check).get('status')
            stale = not before or (args.retry and before not in DONE)
            if stale and family.name in (args.families or [family.name]):
                todo.append((family, check))
    console = Console()
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task('coverage', total=len(todo))
        for family, check in check_all(todo, results, args.jobs, args.timeout):
            bar.update(task, advance=1, description=f'{family.key} {check}')
    report(results.found, args.out.with_suffix('.md'), console)


if __name__ == '__main__':
    main()
