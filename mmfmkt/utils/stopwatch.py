"""Time that a part of an iteration takes, without waiting for a GPU."""

import time
from contextlib import contextmanager
from typing import Any, Iterator, List, Tuple

import torch


class Stopwatch:
    """Adds up the time of blocks; on a GPU, between two events of its own.

    Copies begin at zero.

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
            device (torch.device): Where it computes.
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
        """Seconds of what has ended since the last call."""
        while self._events and self._events[0][1].query():
            first, last = self._events.pop(0)
            self._seconds += first.elapsed_time(last) / 1e3
        found, self._seconds = self._seconds, 0.0
        return found
