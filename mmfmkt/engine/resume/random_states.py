"""Random states in checkpoints, and between processes."""

import io
import pickle
from typing import Any, Dict

import numpy as np
import torch

from mmfmkt.utils.checkpoints import RestrictedUnpickler


def pack_states(states: Dict[str, Any]) -> bytes:
    """States for a checkpoint, or for another process.

    Args:
        states (dict): What `get_random_states` gave.
    """
    arrays = {
        key: state.numpy() if isinstance(state, torch.Tensor) else state
        for key, state in states.items()
    }
    return pickle.dumps(arrays)


def unpack_states(packed: bytes) -> Dict[str, Any]:
    """What was packed; code in it is not run.

    Args:
        packed (bytes): What `pack_states` gave.
    """
    arrays = RestrictedUnpickler(io.BytesIO(packed)).load()
    return {
        key: torch.tensor(x) if isinstance(x, np.ndarray) else x
        for key, x in arrays.items()
    }
