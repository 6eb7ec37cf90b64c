"""Count the kernels of a flow: ATen operators except views.

    python tools/dev/benchmark/kernels.py --encoders BottleneckEncoder

On a GPU that is not fully used, the number of kernels determines the time of a
flow. One level is counted on the CPU: forward and backward of a training step,
and forward of the deployed flow. ``--compile`` instead counts compiled graphs
over sizes and numbers of steps, and times the default compiler.
"""

import argparse
import statistics
import time
from collections import Counter
from copy import deepcopy
from functools import partial

import interleaved_timing as timing
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mmfmkt.cli.errors import exit_on_error
from mmfmkt.cli.options import make_parser
from mmfmkt.models import flows, losses
from mmfmkt.models.flows import sampler

METRICS = dict(
    fmkt='PKDLoss', theta='PKDLoss', online='MSELoss', parallel='PKDLoss'
)
SIZES = ((16, 16), (16, 24), (20, 28), (25, 13), (32, 40))
STEP_COUNTS = (1, 2, 3, 4, 8)
# Operators without computation that are not views.
NO_COMPUTATION = ('_unsafe_view', 'detach', 'empty', 'promote_types')


# Original function, which a measurement replaces.
STEPS_PER_BATCH = sampler.steps_per_batch


class KernelCounter(TorchDispatchMode):
    """Mode that counts operators below autograd, except views."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if not is_view(func):
            self.calls[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def is_view(func) -> bool:
    """Return whether an operator computes nothing, such as a view."""
    if func.overloadpacket.__name__ in NO_COMPUTATION:
        return True
    aliases = [x.alias_info for x in func._schema.returns]
    return bool(aliases) and all(
        x is not None and not x.is_write for x in aliases
    )


def count_kernels(function) -> Counter:
    """Count the kernels of a function by operator.

    Args:
        function (Callable): Function without arguments; a first call as
            warm-up is not counted.
    """
    function()
    with KernelCounter() as counter:
        function()
    return counter.calls


def training_step(transfer, source, target, num_steps: int):
    """Return a training step of one level, without an optimizer."""

    def run() -> None:
        transfer.zero_grad(set_to_none=True)
        losses, output = transfer(source, target, num_steps)
        torch.autograd.backward(
            [sum(losses.values()), output], [None, torch.ones_like(output)]
        )

    return run


def show_compiled(name: str, transfer, num_steps: int) -> None:
    """Print the number of graphs over sizes and N, and compiled times."""
    from torch._dynamo import config, utils

    config.fail_on_recompile_limit_hit = True
    source = torch.randn(2, 256, 16, 16, requires_grad=True)
    target = torch.randn(2, 256, 16, 16)
    compiled = deepcopy(transfer)
    compiled.compile(backend='eager')
    torch._dynamo.reset()
    utils.counters.clear()
    largest = 0.0
    for n in STEP_COUNTS:
        for size in SIZES:
            maps = torch.randn(2, 2, 256, *size).unbind()
            losses, expected = compiled(*maps, n)[0], transfer(*maps, n)[0]
            error = losses['loss_flow'] / expected['loss_flow'] - 1
            largest = max(largest, abs(error.item()))
    graphs = utils.counters['stats']['unique_graphs']
    breaks = sum(utils.counters['graph_break'].values())
    print(
        f'{name}: {graphs} graphs, {breaks} breaks, '
        f'{graphs - len(STEP_COUNTS)} recompilations over {len(SIZES)} sizes '
        f'and {len(STEP_COUNTS)} N; relative error of losses {largest:.1e}'
    )
    torch._dynamo.reset()
    sampler.steps_per_batch = STEPS_PER_BATCH
    compiled = deepcopy(transfer)
    compiled.compile()
    steps = {
        label: training_step(module, source, target, num_steps)
        for label, module in (('eager', transfer), ('compiled', compiled))
    }
    start = time.perf_counter()
    steps['compiled']()
    print(f'  compiling: {time.perf_counter() - start:.0f} s')
    for label, times in timing.time_interleaved(steps, 20).items():
        print(f'  {label}: {statistics.median(times) * 1e3:.1f} ms')


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add('--variants', nargs='+', default=['fmkt', 'theta'])
    add('--encoders', nargs='+', default=['BottleneckEncoder', 'ConvEncoder'])
    add('--num-steps', type=int, default=4, help='N')
    add('--inference-steps', nargs='+', type=int, default=[1, 4], help='K')
    add('--list', action='store_true', help='list the operators')
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
            sampler.steps_per_batch = lambda state, indices: len(indices)
            if args.compile:
                name = f'{variant} {encoder}'
                show_compiled(name, transfer, args.num_steps)
                continue
            step = training_step(transfer, source, target, args.num_steps)
            name = f'{variant} {encoder} N={args.num_steps}'
            print_kernels(name, count_kernels(step), args)
            if not transfer.deploys_flow:
                continue
            for k in args.inference_steps:
                with torch.no_grad():
                    deployed = partial(transfer.sample, source, k)
                    calls = count_kernels(deployed)
                print_kernels(f'{variant} {encoder} K={k}', calls, args)


def print_kernels(name: str, calls: Counter, args: argparse.Namespace) -> None:
    print(f'{name}: {calls.total()} kernels')
    if args.list:
        for operator, number in calls.most_common():
            print(f'  {number:4} {operator}')


if __name__ == '__main__':
    with exit_on_error():
        main()
