"""Tries every detector family of the installed MMDetection as a student.

    python tools/coverage_sweep.py --out coverage.json

For one small config of each family in the model index, as FM-KT^Theta and as
FM-KT: one training step, one prediction, and the way through the export, each
in a process of its own. What fails is tried by itself as well, without
mmfmkt, to tell whose fault it is. What is done stays done: the same command
continues.
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
from typing import Callable

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from mmfmkt.apis.coverage import (
    VARIANTS,
    Family,
    NotAStudentError,
    check_alone,
    check_student,
    families,
)
from mmfmkt.models.distillers.taps import TOO_SMALL

COLUMNS = ('family', *VARIANTS, 'config', 'why not')
console = Console(width=160)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Try MMDetection's detector families as students",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument(
        '--out', type=Path, default=Path('work_dirs/coverage.json'),
        help='file of the results; what is in it is not tried again; the '
        'table is written beside it')
    parser.add_argument(
        '--families', nargs='+', help='families to try (default: all)')
    parser.add_argument(
        '--retry', action='store_true', help='try again what has not passed')
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
    result = dict(status='passed', reason='')
    try:
        large_enough(check_student, config, variant, size=size)
    except NotAStudentError as error:
        result = dict(status='cannot apply', reason=str(error))
    except Exception as error:
        traceback.print_exc()
        result = dict(status='failed', reason=one_line(error))
        try:
            large_enough(check_alone, config, size=size)
        except Exception as alone:
            result = dict(
                status='does not run',
                reason=f'nor by itself: {one_line(alone)}')
    print(json.dumps(result))


def large_enough(check: Callable, *args: str, size: int) -> None:
    """Run a check, with larger images where these are too small."""
    try:
        check(*args, size)
    except RuntimeError as error:
        if not any(x in str(error) for x in TOO_SMALL):
            raise
        check(*args, 3 * size)


def one_line(error: Exception) -> str:
    """The kind of an error, the beginning of what it says, and where."""
    said = (str(error).strip().splitlines() or [''])[0]
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return (f'{type(error).__name__}: {said[:160]} '
            f'({Path(frame.filename).name}:{frame.lineno})')


def try_family(family: Family, variant: str,
               args: argparse.Namespace) -> dict:
    """Check the smallest student of a family that this machine can run."""
    for config in family.configs[:3]:
        result = try_config(config, variant, args)
        if result['status'] != 'does not run':
            break
    return result


def try_config(config: str, variant: str, args: argparse.Namespace) -> dict:
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
    return dict(
        result,
        seconds=round(time.perf_counter() - start, 1),
        config=config)


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
                                       and before['status'] != 'passed')
            if family.reason:
                results[key] = dict(
                    status='cannot apply', reason=family.reason, seconds=0)
            elif stale:
                bar.update(task, description=key)
                results[key] = try_family(family, variant, args)
            # Written aside and renamed: an interruption costs one config.
            aside = args.out.with_suffix('.tmp')
            aside.write_text(json.dumps(results, indent=2))
            aside.replace(args.out)
            bar.advance(task)
    report(results, args.out.with_suffix('.md'))


def report(results: dict, path: Path) -> None:
    """Print a row for each family and the counts, and write them down."""
    table = Table(title="MMDetection's families as students")
    for column in COLUMNS:
        table.add_column(column)
    rows = []
    for name in sorted({key.split()[0] for key in results}):
        pair = [results.get(f'{name} {x}', {}) for x in VARIANTS]
        first = next((x for x in pair if x.get('reason')), pair[0])
        rows.append((name, *(x.get('status', '') for x in pair),
                     first.get('config', ''), first.get('reason', '')))
        table.add_row(*rows[-1])
    console.print(table)
    counts = []
    for variant in VARIANTS:
        found = Counter(x['status'] for key, x in results.items()
                        if key.endswith(f' {variant}'))
        counts.append(f'{variant}: ' + ', '.join(
            f'{count} {status}' for status, count in found.items()))
        console.print(counts[-1])
    lines = [COLUMNS, ['---'] * len(COLUMNS), *rows]
    text = ['| ' + ' | '.join(line) + ' |' for line in lines]
    path.write_text('\n'.join([*text, '', *(f'- {x}' for x in counts), '']))


if __name__ == '__main__':
    main()
