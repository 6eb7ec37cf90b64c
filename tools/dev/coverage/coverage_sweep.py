"""Distills every model family of the installed libraries, as student.

    python tools/dev/coverage/coverage_sweep.py --out coverage.json

For each family in the model index of MMDetection and MMPretrain, the smallest
config that this machine can train is trained by a Runner on a tiny data set:

- ``equivalence``: in a distiller whose transfer has weight 0, the student must
  train bit for bit as it does without a distiller.
- ``variants``: as FM-KT^Theta and as FM-KT, the student must train, predict
  and be exported, and the library's own tools must run the export.

Each check runs in a process of its own. The same command continues an
interrupted sweep.
"""

import argparse
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from sweep.families import LIBRARIES, families
from sweep.report import report
from sweep.runs import Results, check_all

from mmfmkt.cli.options import make_parser
from mmfmkt.utils.configs import link_shipped

CHECKS = ('equivalence', 'variants')
DONE = ('equal', 'passed', 'cannot apply')


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__, defaults=True)
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('work_dirs/coverage.json'),
        help='JSON file of the results; checks that it has are skipped; the '
        'table is written beside it',
    )
    parser.add_argument(
        '--library',
        nargs='+',
        choices=LIBRARIES,
        default=LIBRARIES,
        help='libraries to check',
    )
    parser.add_argument(
        '--families', nargs='+', help='families to check (default: all)'
    )
    parser.add_argument(
        '--checks',
        nargs='+',
        choices=CHECKS,
        default=CHECKS,
        help='checks to run',
    )
    parser.add_argument(
        '--retry', action='store_true', help='repeat checks that did not pass'
    )
    parser.add_argument(
        '--jobs', type=int, default=1, help='number of parallel processes'
    )
    parser.add_argument(
        '--timeout',
        type=float,
        default=600,
        help='limit of one check of one config in seconds',
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    link_shipped()
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
    report(results.by_family, args.out.with_suffix('.md'), console)


if __name__ == '__main__':
    main()
