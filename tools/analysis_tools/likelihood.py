"""Estimate the change of log-density of student features by a flow.

    python tools/analysis_tools/likelihood.py CONFIG CHECKPOINT

For each tapped level, integrates the instantaneous change-of-variables formula
along the flow on validation images. Without a checkpoint, the flow has its
initial weights.
"""

import argparse
import json
from collections import defaultdict
from itertools import islice

import torch
from mmengine.device import get_device
from mmengine.runner import Runner
from rich.console import Console
from rich.progress import track
from rich.table import Table

from mmfmkt.apis.inference import load_network
from mmfmkt.cli.errors import exit_on_error
from mmfmkt.cli.options import add_cfg_options, int_at_least, make_parser
from mmfmkt.models.distillers.taps import as_levels, read_taps
from mmfmkt.models.flows.likelihood import (
    autonomous_velocity,
    log_density_change,
)
from mmfmkt.utils import ConfigError
from mmfmkt.utils.configs import read_config

console = Console()
# Relative and absolute tolerance of the ODE solver.
TOLERANCE = 1e-4


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__, defaults=True)
    parser.add_argument('config', help='path of the config')
    parser.add_argument(
        'checkpoint',
        nargs='?',
        help='path or URL of the checkpoint; default: initial weights',
    )
    parser.add_argument(
        '--batches',
        type=int_at_least(1),
        default=2,
        help='number of validation batches',
    )
    parser.add_argument(
        '--probes',
        type=int_at_least(1),
        default=4,
        help='number of probe vectors of the trace estimate per sample',
    )
    parser.add_argument('--seed', type=int, default=0, help='random seed')
    parser.add_argument('--out', help='JSON output file')
    add_cfg_options(parser)
    return parser.parse_args()


def estimate(args: argparse.Namespace) -> dict:
    """Return the log-density change of each image by level.

    The changes are in nats per dimension.
    """
    cfg = read_config(args.config, args.cfg_options)
    if 'student' not in cfg.model:
        raise ConfigError(
            "The config is not a distillation: it has no key 'model.student'."
        )
    model = load_network(cfg, args.checkpoint).to(get_device())
    loader = Runner.build_dataloader(cfg.val_dataloader, seed=args.seed)
    generator = torch.Generator().manual_seed(args.seed)
    changes = defaultdict(list)
    total = min(args.batches, len(loader))
    for data in track(
        islice(loader, total),
        total=total,
        description='integrate',
        console=console,
        disable=not console.is_terminal,
    ):
        with torch.no_grad():
            inputs = model.data_preprocessor(data, False)['inputs']
            taps = [x.tap for x in model.flows.values()]
            outputs = read_taps(model.student, taps, inputs, 'student')
        for tap_transfers, output in zip(model.flows.values(), outputs):
            levels = as_levels(output, tap_transfers.tap)
            for level, transfer in tap_transfers.items():
                source = levels[int(level)]
                if transfer.field is None:
                    raise ConfigError(
                        f'model.variant {model.variant!r} has no flow.'
                    )
                try:
                    velocity = autonomous_velocity(transfer.field, source)
                except ValueError as error:
                    raise ConfigError(f'model.flow: {error}') from error
                change = log_density_change(
                    velocity,
                    source,
                    num_probes=args.probes,
                    rtol=TOLERANCE,
                    atol=TOLERANCE,
                    generator=generator,
                ).change
                changes[f'{tap_transfers.tap}.{level}'] += (
                    change / source[0].numel()
                ).tolist()
    return dict(changes)


def main() -> None:
    args = parse_args()
    changes_by_level = estimate(args)
    table = Table(
        title='Log-density change, log p_0(Z_0) - log p_1(Z_1), from the '
        'student feature Z_1 to the end of the flow Z_0'
    )
    table.add_column('level')
    for column in ('nats per dimension', 'standard error', 'images'):
        table.add_column(column, justify='right')
    levels = {}
    for name, changes in changes_by_level.items():
        changes = torch.tensor(changes, dtype=torch.float64)
        # A single image has no standard error.
        error = None
        if len(changes) > 1:
            error = float(changes.std()) / len(changes) ** 0.5
        levels[name] = dict(
            mean=float(changes.mean()),
            standard_error=error,
            images=len(changes),
        )
        table.add_row(
            name,
            f'{changes.mean():+.5f}',
            '-' if error is None else f'{error:.5f}',
            str(len(changes)),
        )
    console.print(table)
    if args.out:
        with open(args.out, 'w', encoding='utf-8') as file:
            json.dump(dict(levels=levels), file, indent=2)


if __name__ == '__main__':
    with exit_on_error():
        main()
