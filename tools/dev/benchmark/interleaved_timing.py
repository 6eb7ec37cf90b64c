"""Reports of timings and of activation memory.

Each round of a timing runs every function once.
"""

import platform
import statistics
import sys
from typing import Any, Callable, Dict, Iterable, List, Sequence

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from mmfmkt.utils.interleaved_timing import ratio_to


def activation_bytes(
    function: Callable[[], Any], excluded: Iterable[Tensor] = ()
) -> int:
    """Return the bytes that autograd stores for backward.

    Args:
        function (Callable): A forward pass.
        excluded (Iterable[Tensor]): Tensors that are not counted, such as
            parameters and inputs.
    """
    excluded_storages = {x.untyped_storage().data_ptr() for x in excluded}
    saved: Dict[int, torch.UntypedStorage] = {}

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in excluded_storages:
            # The storage is kept alive, so that its address is not reused.
            saved[storage.data_ptr()] = storage
        # `x` itself would refer back to the graph.
        return x.detach()

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        function()
    return sum(storage.nbytes() for storage in saved.values())


def timing_row(
    name: str, times: Dict[str, List[float]], baseline: Sequence[str]
) -> dict:
    """Return a report's row: time of a function, and ratio to a baseline.

    The time is the median; ``ratio``, ``low`` and ``high`` are median and
    quartiles of the ratio.

    Args:
        name (str): Name of the function.
        times (dict[str, list[float]]): Seconds of each round, by name.
        baseline (Sequence[str]): Functions whose times add up to the
            denominator.
    """
    sums = [sum(seconds) for seconds in zip(*(times[x] for x in baseline))]
    return dict(
        name=name,
        value=statistics.median(times[name]) * 1e3,
        unit='ms',
        **ratio_to(times[name], sums),
        times=times[name],
    )


def memory_row(name: str, size: int, baseline: int) -> dict:
    """Return a report's row: bytes in MiB, and ratio to a baseline."""
    ratios = dict.fromkeys(('ratio', 'low', 'high'), size / baseline)
    return dict(name=name, value=size / 2**20, unit='MiB', **ratios)


def build_report(title: str, rows: List[dict], device: torch.device) -> dict:
    """Return rows together with command, versions and hardware."""
    name = platform.processor() or platform.machine()
    if device.type == 'cuda':
        name = torch.cuda.get_device_name(device)
    return dict(
        title=title,
        command=' '.join(sys.argv),
        torch=torch.__version__,
        device=f'{device.type} ({name})',
        threads=torch.get_num_threads(),
        rows=rows,
    )


def print_report(report: dict) -> None:
    """Print a report as a table."""
    table = Table(title=f'{report["title"]}, {report["device"]}')
    for column in ('', 'median', 'ratio', 'quartiles'):
        table.add_column(column, justify='right' if column else 'left')
    for row in report['rows']:
        table.add_row(
            row['name'],
            f'{row["value"]:.1f} {row["unit"]}',
            f'{row["ratio"]:.3f}',
            f'{row["low"]:.3f} to {row["high"]:.3f}',
        )
    Console().print(table)
