"""Random number stream that is independent of the global generators."""

import random
from typing import Any, Dict, Optional

import numpy as np
import torch

# Added to the run's seed; the value is arbitrary.
SEED_OFFSET = 0x464D4B54


class RandomStream:
    """Context with separate random states of Python, NumPy and PyTorch.

    Drawing inside the context does not change the global generators. Each
    entry continues the stream where the previous one ended. The seed is
    derived from the seed of the run (``torch.initial_seed``), so runs with the
    same seed draw the same numbers.

    Attributes:
        states (dict): Random states of the stream; empty before the first
            entry.

    Examples:
        >>> torch.manual_seed(0)
        >>> stream = RandomStream()
        >>> with stream:
        ...     torch.rand(2)  # drawn from the stream
        >>> torch.rand(2)  # the same as without the stream
    """

    def __init__(self) -> None:
        self._seed = (torch.initial_seed() + SEED_OFFSET) % 2**32
        self.states: Dict[str, Any] = {}
        self._global_states: Optional[Dict[str, Any]] = None

    def __enter__(self) -> 'RandomStream':
        if self._global_states is not None:
            raise RuntimeError('RandomStream is not reentrant.')
        self._global_states = get_random_states()
        if self.states:
            set_random_states(self.states)
        else:
            random.seed(self._seed)
            np.random.seed(self._seed)
            # Unlike `torch.manual_seed`, this does not seed the GPUs.
            torch.default_generator.manual_seed(self._seed)
        # CUDA may be initialized after the first entry.
        if 'cuda' in self._global_states and 'cuda' not in self.states:
            torch.cuda.manual_seed(self._seed)
        return self

    def __exit__(self, *_: Any) -> None:
        self.states = get_random_states()
        set_random_states(self._global_states)
        self._global_states = None


def get_random_states() -> Dict[str, Any]:
    """Return the random states of Python, NumPy, PyTorch and the GPU.

    They can be pickled: arrays replace tensors.
    """
    states = dict(
        python=random.getstate(),
        numpy=np.random.get_state(),
        torch=torch.get_rng_state().numpy(),
    )
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        states['cuda'] = torch.cuda.get_rng_state().numpy()
    return states


def set_random_states(states: Dict[str, Any]) -> None:
    """Set the random states that `get_random_states` returned."""
    random.setstate(states['python'])
    np.random.set_state(states['numpy'])
    torch.set_rng_state(torch.from_numpy(states['torch']))
    if 'cuda' in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(torch.from_numpy(states['cuda']))
