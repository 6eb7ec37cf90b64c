"""Serialization of random states."""

import io
import pickle
from typing import Any, Dict

import numpy as np
import torch

from mmfmkt.utils.checkpoints import RestrictedUnpickler


def pack_states(states: Dict[str, Any]) -> bytes:
    """Serialize random states.

    Args:
        states (dict): Result of `get_random_states`.
    """
    arrays = {
        key: state.numpy() if isinstance(state, torch.Tensor) else state
        for key, state in states.items()
    }
    return pickle.dumps(arrays)


def unpack_states(packed: bytes) -> Dict[str, Any]:
    """Deserialize random states without executing code.

    Args:
        packed (bytes): Result of `pack_states`.
    """
    arrays = RestrictedUnpickler(io.BytesIO(packed)).load()
    return {
        key: torch.tensor(x) if isinstance(x, np.ndarray) else x
        for key, x in arrays.items()
    }
