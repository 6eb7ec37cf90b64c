"""Train and evaluate the methods of a table, and write its results page.

    python tools/dev/benchmark/accuracy.py TABLE --jobs 2
    python tools/dev/benchmark/accuracy.py TABLE --render

where TABLE is a file in tools/dev/benchmark/tables/.

Each method is trained with each of its seeds, as by tools/train.py. Its last
checkpoint is evaluated on the config's test_dataloader, as by tools/test.py.
Training does not use this split, so no checkpoint is selected by the reported
metric. All configs are checked before training. The results of all runs,
including failed ones, are written to one JSON file, from which the page's
table and plot are made. Repeat the command to resume. `mmfmkt compare`
compares methods on other students and data.
"""

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import Sequence

from mmfmkt.apis.compare import Executor, Run, check_methods
from mmfmkt.cli.errors import exit_on_error
from mmfmkt.cli.options import add_debug, int_at_least, make_parser
from mmfmkt.utils import ConfigError

sys.path.insert(0, str(Path(__file__).resolve().parent))

from protocol import cost, page, plan, zoo  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add('table', type=Path, help='YAML file with methods and seeds')
    add('--out', help='folder of the runs (default: work_dirs/tables/NAME)')
    add(
        '--jobs',
        type=int_at_least(1),
        default=1,
        help='number of parallel runs (default: %(default)s)',
    )
    add('--only', nargs='+', metavar='METHOD', help='run only these methods')
    add('--seeds', nargs='+', type=int, help='run only these seeds')
    add('--retry', action='store_true', help='repeat failed runs')
    add(
        '--dry-run', action='store_true', help='list the runs and their states'
    )
    add(
        '--cost',
        action='store_true',
        help='instead of training, measure latency, parameters, FLOPs and '
        'saved activations (the machine should be idle)',
    )
    add(
        '--render',
        action='store_true',
        help='write page and plot from existing results, without training',
    )
    add_debug(parser)
    return parser.parse_args()


def execute(
    executor: Executor, table: plan.Table, runs: Sequence[Run]
) -> None:
    """Train or evaluate the teacher of a table, then execute the runs.

    Raises:
        ConfigError: If the training of the teacher failed.
    """
    teacher = Run(table.teacher, table.teacher.seeds[0])
    executor.execute([teacher])
    result = executor.result(teacher)
    if 'error' in result:
        raise ConfigError(
            f'The training of the teacher failed ({result["error"]}): see '
            f'{executor.folder / teacher.folder}; --retry repeats it.'
        )
    executor.teacher['checkpoint'] = result['checkpoint']
    if table.cache:
        cache = executor.folder / 'teacher_cache.sqlite'
        executor.teacher['cache'] = str(cache)
    executor.execute(runs)


def main() -> None:
    # SIGTERM is handled like Ctrl-C, so that child processes are ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    args = parse_args()
    table = plan.read_table(args.table)
    folder = Path(args.out or Path('work_dirs/tables', table.name))
    # Paths of configs in tables are relative to the project's root.
    folder = folder.resolve()
    os.chdir(plan.ROOT)
    executor = Executor(table, folder, args.jobs, args.retry)
    if args.cost:
        executor.collect(cost.measure(table))
    elif not args.render:
        runs = table.select_runs(args.only, args.seeds)
        if args.dry_run:
            for run in runs:
                print(run, '--', executor.state(run))
            return
        pending = [x.method for x in runs if executor.is_pending(x)]
        methods = {x.name: x for x in (table.teacher, *pending)}
        check_methods(
            methods.values(),
            dict(checkpoint=table.teacher.checkpoint),
            table.amp,
        )
        try:
            execute(executor, table, runs)
        except KeyboardInterrupt:
            sys.exit('interrupted; repeat the command to resume')
        finally:
            executor.collect()
    page.render(table)
    tables = plan.all_tables()
    if table.name in (x.name for x in tables):
        zoo.write(tables)


if __name__ == '__main__':
    with exit_on_error():
        main()
