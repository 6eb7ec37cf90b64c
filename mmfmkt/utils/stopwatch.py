"""Timing of a part of an iteration without synchronizing the GPU."""

import time
from contextlib import contextmanager
from typing import Any, Iterator, List, Tuple

import torch


class Stopwatch:
    """Accumulates the time of code blocks, by CUDA events on a GPU.

    A deep copy starts at zero.

    Examples:
        >>> watch = Stopwatch()
        >>> with watch.on(torch.device('cpu')):
        ...     pass
        >>> watch.seconds() >= 0
        True
    """

    def __init__(self) -> None:
        self._seconds = 0.0
        self._events: List[Tuple[Any, Any]] = []

    def __deepcopy__(self, memo: dict) -> 'Stopwatch':
        return Stopwatch()

    @contextmanager
    def on(self, device: torch.device) -> Iterator[None]:
        """Time a block.

        Args:
            device (torch.device): Device on which the block computes.
        """
        if device.type != 'cuda':
            start = time.perf_counter()
            yield
            self._seconds += time.perf_counter() - start
            return
        self._add_completed()
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        yield
        end.record()
        self._events.append((begin, end))

    def seconds(self) -> float:
        """Return the seconds of completed blocks and reset them.

        A later call returns those that still run on the GPU.
        """
        self._add_completed()
        seconds, self._seconds = self._seconds, 0.0
        return seconds

    def _add_completed(self) -> None:
        """Add the blocks that the GPU has completed."""
        while self._events and self._events[0][1].query():
            begin, end = self._events.pop(0)
            self._seconds += begin.elapsed_time(end) / 1e3
