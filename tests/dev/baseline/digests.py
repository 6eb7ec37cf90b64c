"""Hashes and projections of tensors.

A hash shows that one bit differs; the projections beside it measure by how
much. Neither depends on the names or the order of the tensors.
"""

import hashlib
import math
from typing import Any, Dict, Iterable, Iterator, List, Tuple

import torch
from torch import Tensor

LENGTH = 16


def to_hex(value: float) -> str:
    """Return all bits of a number as text."""
    return float(value).hex()


def sha(tensor: Tensor) -> str:
    """Return the beginning of the SHA-256 of a tensor's shape and bytes."""
    tensor = tensor.detach().contiguous().cpu()
    found = hashlib.sha256(f'{tensor.dtype} {tuple(tensor.shape)}'.encode())
    # Reads every dtype as bytes; scalars need an axis for it.
    found.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:LENGTH]


def sha_of_all(tensors: Iterable[Tensor]) -> str:
    """Return one hash of many tensors, independent of their order."""
    joined = ' '.join(sorted(map(sha, tensors)))
    return hashlib.sha256(joined.encode()).hexdigest()[:LENGTH]


def wave(size: int, phase: int = 0) -> Tensor:
    """Return fixed float64 numbers in [-1, 1]."""
    steps = torch.arange(size, dtype=torch.float64)
    return torch.sin(steps * (0.7 + 0.1 * phase) + phase)


def projections(tensors: Iterable[Tensor]) -> List[str]:
    """Return a fixed projection and the norm of many tensors, as hex."""
    flat = [x.detach().double().flatten() for x in tensors]
    # fsum rounds once, independent of the order.
    return [
        to_hex(math.fsum((x * wave(len(x))).sum().item() for x in flat)),
        to_hex(math.sqrt(math.fsum(x.square().sum().item() for x in flat))),
    ]


def digest(tensors: Iterable[Tensor]) -> Dict[str, Any]:
    """Return the hash and the projections of many tensors."""
    tensors = list(tensors)
    return dict(sha=sha_of_all(tensors), values=projections(tensors))


def tensors_of(part: Any, name: str = '') -> Iterator[Tuple[str, Tensor]]:
    """Yield dotted name and tensor of all tensors in a checkpoint's part."""
    if isinstance(part, Tensor):
        yield name, part
    elif isinstance(part, dict):
        for key, value in part.items():
            yield from tensors_of(value, f'{name}.{key}' if name else str(key))
    elif isinstance(part, (list, tuple)):
        for index, value in enumerate(part):
            yield from tensors_of(value, f'{name}.{index}')


def checkpoint_hashes(path: Any) -> Dict[str, str]:
    """Return the hash of each weight, average and optimizer state."""
    loaded = torch.load(path, map_location='cpu', weights_only=False)
    parts = ('state_dict', 'ema_state_dict', 'optimizer')
    kept = {key: loaded[key] for key in parts if key in loaded}
    return {name: sha(x) for name, x in tensors_of(kept)}
