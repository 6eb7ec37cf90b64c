"""Random numbers of our own, which leave those of others as they were."""

import random
from typing import Any, Dict, Optional

import numpy as np
import torch

OFFSET = 0x464D4B54


class RandomStream:
    """A context in which Python, NumPy and PyTorch draw from another stream.

    What is drawn inside changes nothing of what is drawn outside, and inside
    goes on where the last time ended. The stream starts from the seed of the
    run (``torch.initial_seed``), so a run of the same seed draws the same.

    Attributes:
        states (dict): Where the stream is; empty before the first entry.

    Examples:
        >>> torch.manual_seed(0)
        >>> stream = RandomStream()
        >>> with stream:
        ...     torch.rand(2)  # of the stream
        >>> torch.rand(2)  # what it had been without
    """

    def __init__(self) -> None:
        self._seed = (torch.initial_seed() + OFFSET) % 2**32
        self.states: Dict[str, Any] = {}
        self._outer: Optional[Dict[str, Any]] = None

    def __enter__(self) -> 'RandomStream':
        if self._outer is not None:
            raise RuntimeError('A random stream cannot be entered twice.')
        self._outer = read_states()
        write_states(self.states or self._first_states())
        # A GPU may be used for the first time long after the first entry.
        if 'cuda' in self._outer and 'cuda' not in self.states:
            torch.cuda.manual_seed(self._seed)
        return self

    def __exit__(self, *_: Any) -> None:
        self.states = read_states()
        write_states(self._outer)
        self._outer = None

    def _first_states(self) -> Dict[str, Any]:
        return dict(
            python=random.Random(self._seed).getstate(),
            numpy=np.random.RandomState(self._seed).get_state(),
            torch=torch.Generator().manual_seed(self._seed).get_state(),
        )


def read_states() -> Dict[str, Any]:
    """Return the states of Python, NumPy, PyTorch and the GPU in use."""
    states = dict(
        python=random.getstate(),
        numpy=np.random.get_state(),
        torch=torch.get_rng_state(),
    )
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        states['cuda'] = torch.cuda.get_rng_state()
    return states


def write_states(states: Dict[str, Any]) -> None:
    """Set the states that ``read_states`` gave; a GPU's where there is one."""
    random.setstate(states['python'])
    np.random.set_state(states['numpy'])
    torch.set_rng_state(states['torch'])
    if 'cuda' in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states['cuda'])
