"""Interleaved timing of functions in one process.

Each round runs every function once, so that other load of the machine affects
all functions equally. A ratio of two functions is the median over rounds, with
quartiles.
"""

import statistics
import time
from typing import Any, Callable, Dict, Hashable, List, Sequence, TypeVar

import torch
from rich.console import Console
from rich.progress import track

console = Console(stderr=True)
Key = TypeVar('Key', bound=Hashable)


def time_interleaved(
    functions: Dict[Key, Callable[[], Any]], repeats: int
) -> Dict[Key, List[float]]:
    """Return the seconds of each function in each round.

    The first round is a warm-up. An interrupt (Ctrl-C) after a further
    complete round ends the timing.

    Args:
        functions (dict): Functions by name.
        repeats (int): Number of rounds after the warm-up.
    """
    times: Dict[Key, List[float]] = {name: [] for name in functions}
    names = list(functions)
    try:
        for round_index in track(
            range(repeats + 1),
            description='timing',
            console=console,
            disable=not console.is_terminal,
        ):
            # The first function of a round rotates: the time of a function
            # depends on what its predecessor left in the caches.
            first = round_index % len(names)
            for name in names[first:] + names[:first]:
                synchronize()
                start = time.perf_counter()
                functions[name]()
                synchronize()
                times[name].append(time.perf_counter() - start)
    except KeyboardInterrupt:
        if min(map(len, times.values())) < 2:
            raise
    rounds = min(map(len, times.values()))
    return {name: seconds[1:rounds] for name, seconds in times.items()}


def synchronize() -> None:
    """Wait for the GPU, if one is in use."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def ratio_to(
    times: Sequence[float], reference: Sequence[float]
) -> Dict[str, float]:
    """Return the ratio of two timings of the same rounds.

    Args:
        times (Sequence[float]): Seconds by round, the numerator.
        reference (Sequence[float]): Seconds by round, the denominator.

    Returns:
        dict: ``ratio``, the median over rounds, and its quartiles ``low`` and
        ``high``.
    """
    ratios = [x / y for x, y in zip(times, reference)]
    low, _, high = (
        statistics.quantiles(ratios, n=4, method='inclusive')
        if len(ratios) > 1
        else ratios * 3
    )
    return dict(ratio=statistics.median(ratios), low=low, high=high)
