"""Serialization of random states."""

import io
import pickle
from typing import Any, Dict

from mmfmkt.utils.checkpoints import RestrictedUnpickler


def pack_states(states: Dict[str, Any]) -> bytes:
    """Serialize random states.

    Args:
        states (dict): Result of `get_random_states`.
    """
    return pickle.dumps(states)


def unpack_states(packed: bytes) -> Dict[str, Any]:
    """Deserialize random states without executing code.

    Args:
        packed (bytes): Result of `pack_states`.
    """
    return RestrictedUnpickler(io.BytesIO(packed)).load()
