"""Distill every model family of the installed libraries as a student.

    python tools/dev/coverage/coverage_sweep.py --out coverage.json

For each family in the model index of MMDetection and MMPretrain, the smallest
config that this machine can train is trained by a Runner on a tiny data set:

- ``equivalence``: in a distiller whose transfer has weight 0, the student must
  train bit for bit as it does without a distiller.
- ``variants``: by FM-KT^Theta and by FM-KT, the student must train, predict
  and be exported, and the library's tools must run the export.

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
        help='JSON file of the results; checks with a result in it are '
        'skipped; the table is written beside it (.md)',
    )
    parser.add_argument(
        '--families',
        nargs='+',
        help='families to check, such as mmdet/retinanet (default: all)',
    )
    parser.add_argument(
        '--retry', action='store_true', help='repeat checks that did not pass'
    )
    parser.add_argument(
        '--jobs', type=int, default=1, help='number of parallel processes'
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    link_shipped()
    results = Results(args.out)
    all_families = [x for library in LIBRARIES for x in families(library)]
    todo = []
    for check in CHECKS:
        for family in all_families:
            old_status = results.get(family, check).get('status')
            is_due = not old_status or (args.retry and old_status not in DONE)
            if is_due and family.key in (args.families or [family.key]):
                todo.append((family, check))
    console = Console()
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task('coverage', total=len(todo))
        for family, check in check_all(todo, results, args.jobs):
            bar.update(task, advance=1, description=f'{family.key} {check}')
    report(results.by_family, args.out.with_suffix('.md'))


if __name__ == '__main__':
    main()
