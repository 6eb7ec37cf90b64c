"""Sinusoidal embedding of the flow's time."""

import math
from typing import Any, Dict, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import is_compiling

MAX_PERIOD = 1e4
# Limit of cached embeddings: an adaptive ODE solver never repeats its times.
MAX_CACHED = 64


def sinusoidal_frequencies(dim: int) -> Tensor:
    """Return geometrically spaced frequencies from 1 to 1 / MAX_PERIOD.

    Args:
        dim (int): Length of the embedding.

    Returns:
        Tensor: ``(dim // 2, )``, float32.
    """
    half = dim // 2
    return torch.exp(-math.log(MAX_PERIOD) * torch.arange(half) / max(half, 1))


def sinusoidal_embedding(
    times: Sequence[float], frequencies: Tensor, dim: int
) -> Tensor:
    """Return cosines and sines of times.

    Args:
        times (Sequence[float]): Times in [0, 1].
        frequencies (Tensor): Result of ``sinusoidal_frequencies``.
        dim (int): Length of a row. If it is odd, the last value is zero.

    Returns:
        Tensor: ``(len(times), dim)``, with the dtype of ``frequencies``.
    """
    # Multiplying the tensor by Python numbers avoids a copy from the host to
    # the device.
    angles = torch.stack([t * frequencies for t in times])
    embedding = torch.cat([angles.cos(), angles.sin()], dim=1)
    return F.pad(embedding, (0, 1)) if dim % 2 else embedding


class TimeEmbedding(nn.Module):
    """Embedding of time, one number per channel: sinusoids, linear layers.

    Args:
        channels (int): C, the channels that the embedding is added to.
        deep (bool): Whether to use Linear-ReLU-Linear instead of Linear.

    Examples:
        >>> TimeEmbedding(8)([1.0, 0.5]).shape
        torch.Size([2, 8])
    """

    frequencies: Tensor

    def __init__(self, channels: int, deep: bool = False) -> None:
        super().__init__()
        self.channels = channels
        self.deep = deep
        # A buffer moves to the device with the module, so no step copies it.
        self.register_buffer(
            'frequencies', sinusoidal_frequencies(channels), persistent=False
        )
        self._cache: Dict[Tuple[Any, ...], Tensor] = {}
        self.proj: nn.Module = nn.Linear(channels, channels)
        if deep:
            self.proj = nn.Sequential(
                self.proj, nn.ReLU(), nn.Linear(channels, channels)
            )

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights.

        Buffers may have another dtype: FSDP's
        ``MixedPrecision(param_dtype=...)`` does not cast them. Layers of
        ``torch.ao.quantization.quantize_dynamic``, whose ``weight`` is a
        method, take the dtype of the buffers.
        """
        linear: Any = self.proj[0] if self.deep else self.proj
        return getattr(linear.weight, 'dtype', self.frequencies.dtype)

    def forward(self, times: Sequence[float]) -> Tensor:
        """Embed times in [0, 1]: ``(len(times), C)``."""
        return self.proj(self._sinusoids(times).to(self.dtype))

    def _sinusoids(self, times: Sequence[float]) -> Tensor:
        """Return the sinusoidal embedding, cached by times and device."""
        frequencies = self.frequencies.float()
        if is_compiling():
            return sinusoidal_embedding(times, frequencies, self.channels)
        key = (*times, frequencies.device, self.frequencies.dtype)
        if key not in self._cache:
            embedding = sinusoidal_embedding(times, frequencies, self.channels)
            # Tensors of a tracer or of inference mode cannot be used in
            # later calls, so they are not cached.
            if type(embedding) is not Tensor or embedding.is_inference():
                return embedding
            if len(self._cache) == MAX_CACHED:
                self._cache.clear()
            self._cache[key] = embedding
        return self._cache[key]
