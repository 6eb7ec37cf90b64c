"""Tries every detector family of the installed MMDetection as a student.

    python tools/coverage_sweep.py --out coverage.json

For one small config of each family in the model index, as FM-KT^Theta and as
FM-KT: one training step, one prediction, and the way through the export, each
in a process of its own. What is done stays done: the same command continues.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from mmfmkt.apis.coverage import VARIANTS, check_student, families

console = Console(width=110)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Try MMDetection's detector families as students",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument(
        '--out', type=Path, default=Path('work_dirs/coverage.json'),
        help='file of the results; what is in it is not tried again')
    parser.add_argument(
        '--families', nargs='+', help='families to try (default: all)')
    parser.add_argument(
        '--retry', action='store_true', help='try again what has failed')
    parser.add_argument(
        '--timeout', type=float, default=300,
        help='seconds for one config and variant')
    parser.add_argument(
        '--size', type=int, default=128, help='side of the images in pixels')
    # A process of one config: not for people.
    parser.add_argument('--one', nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def run_one(config: str, variant: str, size: int) -> None:
    """Check one student; the last line written says how it went."""
    warnings.simplefilter('ignore')
    try:
        check_student(config, variant, size)
        result = dict(status='passed', reason='')
    except ImportError as error:
        result = dict(status='needs', reason=one_line(error))
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        result = dict(
            status='failed',
            reason=f'{one_line(error)} ({Path(frame.filename).name}:'
            f'{frame.lineno})')
        traceback.print_exc()
    print(json.dumps(result))


def one_line(error: Exception) -> str:
    """The kind of an error and the beginning of what it says."""
    said = (str(error).strip().splitlines() or [''])[0]
    return f'{type(error).__name__}: {said}'[:200]


def try_family(config: str, variant: str, args: argparse.Namespace) -> dict:
    """Check one student in a process of its own."""
    start = time.perf_counter()
    command = [sys.executable, __file__, '--one', config, variant, '--size',
               str(args.size)]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=args.timeout,
            env={**os.environ, 'CUDA_VISIBLE_DEVICES': ''})
        lines = done.stdout.strip().splitlines()
        result = json.loads(lines[-1]) if not done.returncode else dict(
            status='failed', reason=f'ended with {done.returncode}')
    except subprocess.TimeoutExpired:
        result = dict(
            status='failed', reason=f'took more than {args.timeout:g} s')
    return dict(result, seconds=round(time.perf_counter() - start, 1))


def main() -> None:
    args = parse_args()
    if args.one:
        run_one(*args.one, args.size)
        return
    results = json.loads(args.out.read_text()) if args.out.exists() else {}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    known = families()
    wanted = [x for x in known if not args.families
              or x.name in args.families]
    todo = [(family, variant) for family in wanted for variant in VARIANTS]
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task('coverage', total=len(todo))
        for family, variant in todo:
            key = f'{family.name} {variant}'
            before = results.get(key)
            stale = before is None or (args.retry
                                       and before['status'] == 'failed')
            if family.reason:
                results[key] = dict(
                    status='cannot apply', reason=family.reason, seconds=0)
            elif stale:
                bar.update(task, description=key)
                results[key] = dict(
                    try_family(family.config, variant, args),
                    config=family.config)
            # Written aside and renamed: an interruption costs one config.
            aside = args.out.with_suffix('.tmp')
            aside.write_text(json.dumps(results, indent=2))
            aside.replace(args.out)
            bar.advance(task)
    report(results)


def report(results: dict) -> None:
    """Print a row for each family and the counts."""
    table = Table(title="MMDetection's families as students")
    for column in ('family', *VARIANTS, 'why not'):
        table.add_column(column)
    names = sorted({key.split()[0] for key in results})
    for name in names:
        row = [results.get(f'{name} {x}', dict(status='', reason=''))
               for x in VARIANTS]
        reason = next((x['reason'] for x in row if x['reason']), '')
        table.add_row(name, *(x['status'] for x in row), reason)
    console.print(table)
    for variant in VARIANTS:
        counts = Counter(x['status'] for key, x in results.items()
                         if key.endswith(f' {variant}'))
        console.print(f'{variant}: ' + ', '.join(
            f'{count} {status}' for status, count in counts.items()))


if __name__ == '__main__':
    main()
