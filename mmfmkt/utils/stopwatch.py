"""Timing of a part of an iteration without synchronizing the GPU."""

import time
from contextlib import contextmanager
from typing import Any, Iterator, List, Tuple

import torch


class Stopwatch:
    """Accumulated time of code blocks; CUDA events measure it on a GPU.

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
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        yield
        last.record()
        self._events.append((first, last))

    def seconds(self) -> float:
        """Return the seconds of completed blocks and reset to zero."""
        while self._events and self._events[0][1].query():
            first, last = self._events.pop(0)
            self._seconds += first.elapsed_time(last) / 1e3
        seconds, self._seconds = self._seconds, 0.0
        return seconds
