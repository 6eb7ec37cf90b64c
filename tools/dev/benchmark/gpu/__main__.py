"""Check and measure mmfmkt on a GPU within minutes.

    bash gpu.sh OUT 9
    bash gpu.sh OUT 20 --device cpu --groups checks

The groups run in this order:

- checks: results equal those of the CPU in float64, and training steps do not
  wait for the GPU;
- costs: time and memory of detectors (run.py), most important first;
- runs: tools/train.py trains a classifier: killed and resumed, by DDP, by
  FSDP.

Each group has several parts. A failed part does not end the others; parts for
which no time is left are skipped. Each result is written at once: a line in
OUT/results.txt, numbers in OUT/results.jsonl, tracebacks and logs in
OUT/errors.log. On a CPU, inputs are small, and parts that need a GPU are
skipped.
"""

import argparse
import importlib
import math
import sys
import time
from pathlib import Path

import torch
from report import Report, describe_machine

# The groups import run.py.
sys.path.append(str(Path(__file__).resolve().parents[1]))

GROUPS = ('checks', 'costs', 'runs')
# Seconds reserved for the last group, and for the end of the process.
LAST_GROUP_SECONDS, END_SECONDS = 90, 10


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='gpu.sh',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('out', type=Path, help='folder for the results')
    add('--minutes', type=float, default=9, help='time budget (%(default)s)')
    add(
        '--started',
        type=float,
        default=time.time(),
        help='start of the budget in seconds since 1970 (default: now)',
    )
    add(
        '--groups',
        nargs='+',
        choices=GROUPS,
        default=GROUPS,
        help='groups to run (default: all)',
    )
    add(
        '--device',
        type=torch.device,
        default='cuda',
        help='device of PyTorch (default: %(default)s)',
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    end = args.started + args.minutes * 60 - END_SECONDS
    report = Report(args.out.resolve())
    report.add('machine', describe_machine(args.device))
    for group in args.groups:
        is_last = group == args.groups[-1]
        deadline = end if is_last else end - LAST_GROUP_SECONDS
        parts = importlib.import_module(group).parts(
            report, args.device, deadline
        )
        if args.device.type == 'cpu':
            # The limits of the parts are those of a GPU.
            parts = [(name, math.inf, run) for name, _, run in parts]
        report.run_parts(parts, deadline)
    report.add('end', f'budget: {args.minutes:g} minutes')


if __name__ == '__main__':
    main()
