"""Count the kernels of a flow: ATen operators except views.

    python tools/dev/benchmark/kernels.py --encoders BottleneckEncoder

On a GPU that is not fully used, the number of kernels determines the time of a
flow. The kernels of one level are counted on the CPU: those of forward and
backward of a training step, and those of the forward of the deployed flow.
"""

import argparse
import itertools
from collections import Counter
from functools import partial
from typing import Any, Callable

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from mmfmkt.cli.errors import exit_on_error
from mmfmkt.cli.options import make_parser
from mmfmkt.models import flows, losses
from mmfmkt.models.flows import sampler

VARIANTS = ('fmkt', 'theta')
# Numbers of Euler steps in training, and of the deployed flow.
NUM_STEPS, INFERENCE_STEPS = 4, (1, 4)
# Operators without computation that are not views.
NO_COMPUTATION = ('_unsafe_view', 'detach', 'empty', 'promote_types')


class KernelCounter(TorchDispatchMode):
    """Mode that counts operators below autograd, except views."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: Any = None
    ) -> Any:
        if not computes_nothing(func):
            self.calls[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def computes_nothing(func: Any) -> bool:
    """Return whether an operator computes nothing, such as a view."""
    if func.overloadpacket.__name__ in NO_COMPUTATION:
        return True
    aliases = [x.alias_info for x in func._schema.returns]
    return bool(aliases) and all(
        x is not None and not x.is_write for x in aliases
    )


def print_kernels(name: str, function: Callable, show_list: bool) -> None:
    """Print the number of kernels of a function.

    Args:
        name (str): Name in the output.
        function (Callable): Function without arguments; a first call as
            warm-up is not counted.
        show_list (bool): Whether to list the operators.
    """
    function()
    with KernelCounter() as counter:
        function()
    print(f'{name}: {counter.calls.total()} kernels')
    if show_list:
        for operator, number in counter.calls.most_common():
            print(f'  {number:4} {operator}')


def training_step(transfer: nn.Module, source: Tensor, target: Tensor) -> None:
    """Run forward and backward of one level, without an optimizer."""
    transfer.zero_grad(set_to_none=True)
    loss_dict, output = transfer(source, target, NUM_STEPS)
    torch.autograd.backward(
        [sum(loss_dict.values()), output], [None, torch.ones_like(output)]
    )


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add(
        '--encoders',
        nargs='+',
        default=['BottleneckEncoder', 'ConvEncoder'],
        help='encoders to count',
    )
    add('--list', action='store_true', help='list the operators')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    source = torch.randn(2, 256, 16, 16, requires_grad=True)
    target = torch.randn(2, 256, 16, 16)
    # Compute all steps as one batch, as on a GPU; a CPU computes each alone.
    sampler.steps_per_batch = lambda state, indices: (
        len(indices) if torch.is_grad_enabled() else 1
    )
    for variant, encoder in itertools.product(VARIANTS, args.encoders):
        field = flows.VelocityField(
            getattr(flows, encoder)(256), flows.RectifiedFlow()
        )
        transfer = flows.VARIANTS[variant](field, losses.PKDLoss())
        step = partial(training_step, transfer, source, target)
        name = f'{variant} {encoder}'
        print_kernels(f'{name} N={NUM_STEPS}', step, args.list)
        for k in INFERENCE_STEPS if transfer.deploys_flow else ():
            deployed = partial(transfer.sample, source, k)
            with torch.no_grad():
                print_kernels(f'{name} K={k}', deployed, args.list)


if __name__ == '__main__':
    with exit_on_error():
        main()
