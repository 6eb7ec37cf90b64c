"""Runs a table of methods and seeds, and writes what they gave.

    python tools/dev/benchmark/accuracy.py TABLE --jobs 2
    python tools/dev/benchmark/accuracy.py TABLE --render

where TABLE is a file in tools/dev/benchmark/tables/.

Each method is trained with each of its seeds as by tools/train.py and
evaluated as by tools/test.py, its last checkpoint, on the split of
test_dataloader, of which training sees nothing; so nothing is chosen by what
is reported. All configs are checked before training. The results of all runs,
failed ones too, go to one JSON file, and from that the page's tables and the
plot are written. Repeat the command to resume. `mmfmkt compare` does the same
for other students and data.
"""

import argparse
import os
import signal
import sys
from pathlib import Path

from mmfmkt.apis.compare import Executor, check_methods
from mmfmkt.cli.errors import exit_on_error
from mmfmkt.cli.options import add_debug, make_parser

sys.path.insert(0, str(Path(__file__).resolve().parent))

from protocol import cost, page, plan, zoo  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add('table', help='YAML file with methods and seeds')
    add('--out', help='folder of the runs (work_dirs/tables/ and its name)')
    add('--jobs', type=int, default=1, help='runs side by side (%(default)s)')
    add('--only', nargs='+', metavar='METHOD', help='of these methods')
    add('--seeds', nargs='+', type=int, help='of these seeds')
    add('--retry', action='store_true', help='run again what failed')
    add('--dry-run', action='store_true', help='say what is to be run')
    add(
        '--cost',
        action='store_true',
        help='measure latency, parameters, FLOPs and saved activations (on a '
        'quiet machine) instead of training',
    )
    add(
        '--render',
        action='store_true',
        help='write page and plot from the results that there are',
    )
    add_debug(parser)
    args = parser.parse_args()
    if args.jobs < 1:
        parser.error('--jobs must be 1 or more')
    return args


def main() -> None:
    # Whoever ends this ends what it has started, as by Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    args = parse_args()
    table = plan.read_table(args.table)
    folder = Path(args.out or Path('work_dirs/tables', table.name))
    # Tools and configs are named from here.
    folder = folder.resolve()
    os.chdir(plan.ROOT)
    executor = Executor(table, folder, args.jobs, args.retry)
    if args.cost:
        executor.collect(cost.measure(table))
    elif not args.render:
        runs = table.runs(args.only, args.seeds)
        if args.dry_run:
            for run in runs:
                print(run, '--', executor.state(run))
            return
        pending = [x.method for x in runs if executor.is_pending(x)]
        check_methods({x.name: x for x in pending}.values(), table.teacher)
        try:
            executor.execute(runs)
        except KeyboardInterrupt:
            sys.exit('interrupted; the same command goes on')
        finally:
            executor.collect()
    page.render(table)
    tables = plan.all_tables()
    if table.name in (x.name for x in tables):
        zoo.write(tables)


if __name__ == '__main__':
    with exit_on_error():
        main()
