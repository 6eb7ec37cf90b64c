"""Checks and measures mmfmkt on a GPU within minutes.

    bash gpu.sh OUT 9
    bash gpu.sh OUT 20 --device cpu --groups checks

The groups run in this order:

- checks: results against those of the CPU in float64; no synchronization;
- costs: time and memory of detectors (run.py), most important first;
- runs: a classifier by tools/train.py, killed and resumed; DDP; FSDP.

A part that fails, or for which no time is left, is skipped. Each result is
written at once: a line in OUT/results.txt, numbers in OUT/results.jsonl,
tracebacks and logs in OUT/errors.log. On a CPU everything is small, and what
needs a GPU is skipped.
"""

import argparse
import importlib
import sys
import time
from pathlib import Path

import torch
from report import Report, describe_machine

# The groups import run.py.
sys.path.append(str(Path(__file__).resolve().parents[1]))

GROUPS = ('checks', 'costs', 'runs')
# Seconds reserved for the last group.
LAST_GROUP = 80


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='gpu.sh',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('out', type=Path, help='folder for the results')
    add('--minutes', type=float, default=9, help='budget (%(default)s)')
    add('--groups', nargs='+', choices=GROUPS, default=GROUPS)
    add('--device', type=torch.device, default='cuda')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    end = time.time() + args.minutes * 60 - 10
    report = Report(args.out.resolve())
    report.add('machine', describe_machine(args.device))
    for group in args.groups:
        until = end - LAST_GROUP if group != args.groups[-1] else end
        parts = importlib.import_module(group).parts(
            report, args.device, until
        )
        report.run_parts(parts, until)
    report.add('end', f'of {args.minutes:g} minutes')


if __name__ == '__main__':
    main()
