"""Verify noise schedules numerically and print a table.

    python tools/analysis_tools/schedules.py
    python tools/analysis_tools/schedules.py MySchedule --import my_flows

For each schedule, the table has the maximum relative error of its derivatives
against finite differences, the RMSE of Euler sampling with the oracle velocity
(the exact velocity from source to target) for N = 1 to 128 steps, and the
convergence order between N = 64 and N = 128.
"""

import argparse
import math
from importlib import import_module

import torch
from rich.console import Console
from rich.table import Table

import mmfmkt.models.flows as flows
from mmfmkt.cli.errors import exit_on_error
from mmfmkt.cli.options import add_debug, make_parser
from mmfmkt.registry import build_part
from mmfmkt.utils import ConfigError

SHIPPED = ('RectifiedFlow', 'VPODE', 'SubVPODE', 'VEODE')
# Numbers of Euler steps N.
STEPS = tuple(2**k for k in range(8))


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument(
        'schedules',
        nargs='*',
        default=SHIPPED,
        metavar='SCHEDULE',
        help='registered names (default: the schedules of mmfmkt)',
    )
    parser.add_argument(
        '--import',
        dest='modules',
        action='append',
        default=[],
        metavar='MODULE',
        help='module that registers a schedule; may be repeated',
    )
    add_debug(parser)
    return parser.parse_args()


def derivative_error(schedule: flows.NoiseSchedule) -> float:
    """Return the maximum relative error of both derivatives.

    The errors are those of alpha and sigma against a five-point finite
    difference, whose step decreases toward t = 1, where schedules may have a
    pole.
    """
    max_error = 0.0
    for i in range(1, 200):
        t = schedule.last_time * i / 200
        step = (1 - t) / 200
        points = [schedule(t + k * step) for k in (2, 1, -1, -2)]
        point = schedule(t)
        for part in ('alpha', 'sigma'):
            a, b, c, d = (getattr(x, part) for x in points)
            reference = (-a + 8 * b - 8 * c + d) / (12 * step)
            error = abs(getattr(point, f'd_{part}') - reference)
            max_error = max(max_error, error / max(abs(reference), 1.0))
    return max_error


def sampling_errors(schedule: flows.NoiseSchedule) -> list:
    """Return the RMSE of sampled targets for each N in ``STEPS``.

    Sampling uses the oracle velocity, which is computed from the target.
    """
    generator = torch.Generator().manual_seed(0)
    source, target = torch.randn(
        2, 4096, dtype=torch.float64, generator=generator
    ).unbind()
    end = schedule.interpolate(source, target, 0.0)
    errors = []
    for num_steps in STEPS:
        state = source
        for i in range(num_steps, 0, -1):
            velocity = schedule.velocity(source, target, i / num_steps)
            state = state - velocity / num_steps
        errors.append(float((state - end).square().mean().sqrt()))
    return errors


def main() -> None:
    args = parse_args()
    for module in args.modules:
        try:
            import_module(module)
        except ImportError as error:
            raise ConfigError(f'--import {module}: {error}') from error
    table = Table(
        title='Relative error of the derivatives, and RMSE of Euler sampling '
        'with the oracle velocity in N steps'
    )
    for column in (
        'schedule',
        'derivatives',
        *(f'N={n}' for n in STEPS),
        'order',
    ):
        table.add_column(column, justify='right', no_wrap=True)
    for name in args.schedules:
        schedule = build_part(dict(type=name))
        try:
            schedule.check()
        except ValueError as error:
            raise ConfigError(str(error)) from error
        errors = sampling_errors(schedule)
        is_exact = errors[-1] < 1e-12
        order = math.inf
        if not is_exact:
            order = math.log2(errors[-2] / errors[-1])
        table.add_row(
            name,
            f'{derivative_error(schedule):.0e}',
            *(f'{e:.0e}' if is_exact else f'{e:.4f}' for e in errors),
            'exact' if is_exact else f'{order:.2f}',
        )
    Console(width=120).print(table)


if __name__ == '__main__':
    with exit_on_error():
        main()
