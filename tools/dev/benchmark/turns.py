"""Taking turns: times and saved activations of rivals in one process.

Rivals run one after the other, again and again, so that what else a machine
does hits them alike; a ratio is the median over turns, with its quartiles.
"""

import json
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Sequence

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

console = Console(stderr=True)
Rivals = Dict[str, Callable[[], Any]]


def take_turns(rivals: Rivals, repeats: int) -> Dict[str, List[float]]:
    """Time rivals turn by turn, in seconds; the first turn does not count.

    Interrupted, it gives what there is.
    """
    times: Dict[str, List[float]] = {name: [] for name in rivals}
    try:
        for turn in track(
            range(repeats + 1),
            description='turns',
            console=console,
            disable=not console.is_terminal,
        ):
            taken = {}
            # Each comes first in its turn: who follows whom tells on caches.
            names = list(rivals)
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                rival = rivals[name]
                wait()
                start = time.perf_counter()
                rival()
                wait()
                taken[name] = time.perf_counter() - start
            for name, seconds in taken.items() if turn else ():
                times[name].append(seconds)
    except KeyboardInterrupt:
        console.print('interrupted: the turns so far count')
    if not all(times.values()):
        raise SystemExit('error: not one turn is complete')
    return times


def wait() -> None:
    """Wait for the GPU, if one is in use."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def saved_bytes(
    function: Callable[[], Any], without: Iterable[Tensor] = ()
) -> int:
    """Bytes that autograd keeps for backward, each storage once.

    Args:
        function (Callable): A forward pass.
        without (Iterable[Tensor]): What is there anyway, as parameters are.
    """
    known = {x.untyped_storage().data_ptr() for x in without}
    kept: Dict[int, torch.UntypedStorage] = {}

    def pack(x: Tensor) -> None:
        storage = x.untyped_storage()
        if storage.data_ptr() not in known:
            # Held, so that no address is given out twice. The graph gets
            # nothing: it would hold itself, and never be freed.
            kept[storage.data_ptr()] = storage

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        function()
    return sum(storage.nbytes() for storage in kept.values())


def row_of_times(
    name: str, times: Dict[str, List[float]], below: Sequence[str]
) -> dict:
    """A row of a report: a rival's time, and its ratio to others' sum."""
    sums = [sum(turn) for turn in zip(*(times[x] for x in below))]
    ratios = [mine / theirs for mine, theirs in zip(times[name], sums)]
    low, _, high = (
        statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    )
    return dict(
        name=name,
        value=statistics.median(times[name]) * 1e3,
        unit='ms',
        ratio=statistics.median(ratios),
        low=low,
        high=high,
        times=times[name],
    )


def row_of_bytes(name: str, found: int, below: int) -> dict:
    """A row of a report: saved bytes, and their ratio to others."""
    ratio = found / below
    return dict(
        name=name,
        value=found / 2**20,
        unit='MiB',
        ratio=ratio,
        low=ratio,
        high=ratio,
    )


def report_of(title: str, rows: List[dict], device: torch.device) -> dict:
    """Rows, and on what they were measured."""
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


def show(report: dict) -> None:
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


def plot(report: dict, path: str) -> None:
    """Draw the ratios of a report as bars with their quartiles."""
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    rows = report['rows'][::-1]
    figure, axes = plt.subplots(figsize=(8, 0.6 + 0.35 * len(rows)))
    spread = [
        [max(row['ratio'] - row['low'], 0) for row in rows],
        [max(row['high'] - row['ratio'], 0) for row in rows],
    ]
    axes.barh(
        [row['name'] for row in rows],
        [row['ratio'] for row in rows],
        xerr=spread,
    )
    axes.axvline(1, color='black', linewidth=0.8)
    axes.set_title(f'{report["title"]} ({report["device"]})')
    figure.savefig(path, dpi=150, bbox_inches='tight')
    plt.close(figure)


def compare(report: dict, path: str, tolerance: float) -> bool:
    """Print the change of each ratio; whether none is much worse.

    Args:
        report (dict): What was measured now.
        path (str): JSON file of an earlier report.
        tolerance (float): Share by which a ratio may have grown.
    """
    baseline = json.loads(Path(path).read_text(encoding='utf-8'))
    before = {row['name']: row['ratio'] for row in baseline['rows']}
    table, good = Table(title=f'against {path}'), True
    for column in ('', 'before', 'now', 'change'):
        table.add_column(column, justify='right' if column else 'left')
    for row in report['rows']:
        if row['name'] in before:
            change = row['ratio'] / before[row['name']] - 1
            good = good and change <= tolerance
            table.add_row(
                row['name'],
                f'{before[row["name"]]:.3f}',
                f'{row["ratio"]:.3f}',
                f'{change:+.1%}',
            )
    Console().print(table)
    return good
