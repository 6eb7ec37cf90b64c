"""Counts the kernels of a flow: ATen calls that are no views.

    python tools/dev/benchmark/kernels.py --encoders BottleneckEncoder

On a GPU that is not full a flow costs what its kernels cost to launch. One
level is counted, forward and backward in training and forward alone as it is
deployed, on a CPU. ``--compile`` counts graphs instead, over sizes and numbers
of steps, and times the default compiler.
"""

import argparse
import statistics
import time
from collections import Counter
from copy import deepcopy
from functools import partial

import torch
import turns
from torch.utils._python_dispatch import TorchDispatchMode

from mmfmkt.cli.errors import exit_on_error
from mmfmkt.cli.options import make_parser
from mmfmkt.models import flows, losses
from mmfmkt.models.flows import walk

METRICS = dict(
    fmkt='PKDLoss', theta='PKDLoss', online='MSELoss', parallel='PKDLoss'
)
SIZES = ((16, 16), (16, 24), (20, 28), (25, 13), (32, 40))
STEP_COUNTS = (1, 2, 3, 4, 8)
# Operators that compute nothing, beside views.
IDLE = ('_unsafe_view', 'detach', 'empty', 'promote_types')


# How many steps this machine runs as one batch.
BATCH_LENGTH = walk.batch_length


class KernelCounter(TorchDispatchMode):
    """Counts the calls below autograd that compute something."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if not is_view(func):
            self.calls[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def is_view(func) -> bool:
    """Whether an operator computes nothing: its result aliases an input."""
    if func.overloadpacket.__name__ in IDLE:
        return True
    aliases = [x.alias_info for x in func._schema.returns]
    return bool(aliases) and all(
        x is not None and not x.is_write for x in aliases
    )


def count(run) -> Counter:
    """Kernels of a call by operator.

    Args:
        run (Callable): What is called, once before it is counted.
    """
    run()
    with KernelCounter() as counter:
        run()
    return counter.calls


def training(transfer, source, target, num_steps: int):
    """Return a training step of one level, without an optimizer."""

    def run() -> None:
        transfer.zero_grad(set_to_none=True)
        found, output = transfer(source, target, num_steps)
        torch.autograd.backward(
            [sum(found.values()), output], [None, torch.ones_like(output)]
        )

    return run


def show_compiled(name: str, transfer, num_steps: int) -> None:
    """Print graphs over sizes and N, and times of the default compiler."""
    from torch._dynamo import config, utils

    config.fail_on_recompile_limit_hit = True
    source = torch.randn(2, 256, 16, 16, requires_grad=True)
    target = torch.randn(2, 256, 16, 16)
    compiled = deepcopy(transfer)
    compiled.compile(backend='eager')
    torch._dynamo.reset()
    utils.counters.clear()
    apart = 0.0
    for n in STEP_COUNTS:
        for size in SIZES:
            maps = torch.randn(2, 2, 256, *size).unbind()
            (found, _), (alike, _) = compiled(*maps, n), transfer(*maps, n)
            gap = found['loss_flow'] / alike['loss_flow'] - 1
            apart = max(apart, abs(gap.item()))
    graphs = utils.counters['stats']['unique_graphs']
    breaks = sum(utils.counters['graph_break'].values())
    print(
        f'{name}: {graphs} graphs, {breaks} breaks, '
        f'{graphs - len(STEP_COUNTS)} recompilations over {len(SIZES)} sizes '
        f'and {len(STEP_COUNTS)} N; losses {apart:.1e} apart'
    )
    torch._dynamo.reset()
    walk.batch_length = BATCH_LENGTH
    compiled = deepcopy(transfer)
    compiled.compile()
    rivals = {
        label: training(module, source, target, num_steps)
        for label, module in (('eager', transfer), ('compiled', compiled))
    }
    start = time.perf_counter()
    rivals['compiled']()
    print(f'  compiling: {time.perf_counter() - start:.0f} s')
    for label, times in turns.take_turns(rivals, 20).items():
        print(f'  {label}: {statistics.median(times) * 1e3:.1f} ms')


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add('--variants', nargs='+', default=['fmkt', 'theta'])
    add('--encoders', nargs='+', default=['BottleneckEncoder', 'ConvEncoder'])
    add('--num-steps', type=int, default=4, help='N')
    add('--inference-steps', nargs='+', type=int, default=[1, 4], help='K')
    add('--list', action='store_true', help='name the operators')
    add('--compile', action='store_true', help='count graphs instead')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    source = torch.randn(2, 256, 16, 16, requires_grad=True)
    target = torch.randn(2, 256, 16, 16)
    for variant in args.variants:
        for encoder in args.encoders:
            field = flows.VelocityField(
                getattr(flows, encoder)(256), flows.RectifiedFlow()
            )
            metric = getattr(losses, METRICS[variant])()
            transfer = flows.VARIANTS[variant](field, metric)
            # On a GPU all steps are one batch; on a CPU each is its own.
            walk.batch_length = lambda state, numbers: len(numbers)
            if args.compile:
                name = f'{variant} {encoder}'
                show_compiled(name, transfer, args.num_steps)
                continue
            run = training(transfer, source, target, args.num_steps)
            show(f'{variant} {encoder} N={args.num_steps}', count(run), args)
            if not transfer.deploys_flow:
                continue
            for k in args.inference_steps:
                with torch.no_grad():
                    calls = count(partial(transfer.transport, source, k))
                show(f'{variant} {encoder} K={k}', calls, args)


def show(name: str, calls: Counter, args: argparse.Namespace) -> None:
    print(f'{name}: {calls.total()} kernels')
    if args.list:
        for operator, number in calls.most_common():
            print(f'  {number:4} {operator}')


if __name__ == '__main__':
    with exit_on_error():
        main()
