"""Sinusoidal embedding of the flow's time."""

import math
from typing import Any, Dict, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import compiling

# A solver of the flow's equation asks for times without an end.
MAX_CACHED = 64


def frequencies(dim: int, max_period: float = 1e4) -> Tensor:
    """Geometrically spaced frequencies, from 1 to nearly 1 / max_period.

    Args:
        dim (int): Length of the embedding.
        max_period (float): Longest period.

    Returns:
        Tensor: ``(dim // 2, )``, float32.
    """
    half = dim // 2
    return torch.exp(-math.log(max_period) * torch.arange(half) / max(half, 1))


def sinusoids(times: Sequence[float], rates: Tensor, dim: int) -> Tensor:
    """Cosines and sines of times.

    Args:
        times (Sequence[float]): Times in [0, 1].
        rates (Tensor): What ``frequencies`` gave.
        dim (int): Length of a row; an odd one ends in a zero.

    Returns:
        Tensor: ``(len(times), dim)``, of the type of ``rates``.
    """
    # Numbers times what is on the device: nothing is copied to it.
    rows = [t * rates for t in times]
    angles = torch.stack(rows) if len(rows) > 1 else rows[0][None]
    waves = torch.cat([angles.cos(), angles.sin()], dim=1)
    return F.pad(waves, (0, 1)) if dim % 2 else waves


class TimeEmbedding(nn.Module):
    """Time as one number per channel: sinusoids, then linear layers.

    Args:
        channels (int): C, the channels that the embedding is added to.
        deep (bool): Whether to use Linear-ReLU-Linear instead of Linear.

    Examples:
        >>> TimeEmbedding(8)([1.0, 0.5]).shape
        torch.Size([2, 8])
    """

    def __init__(self, channels: int, deep: bool = False) -> None:
        super().__init__()
        self.channels = channels
        # Beside the weights, so that no step copies from the host.
        self.register_buffer(
            'frequencies', frequencies(channels), persistent=False
        )
        self._waves: Dict[Tuple[Any, ...], Tensor] = {}
        self.proj = nn.Linear(channels, channels)
        if deep:
            self.proj = nn.Sequential(
                self.proj, nn.ReLU(), nn.Linear(channels, channels)
            )

    def forward(self, times: Sequence[float]) -> Tensor:
        """Embed times in [0, 1]: ``(len(times), C)``."""
        return self.proj(self.waves(times).to(self.frequencies))

    def waves(self, times: Sequence[float]) -> Tensor:
        """``sinusoids`` of times, which are computed once on a device."""
        rates = self.frequencies.float()
        if compiling():
            return sinusoids(times, rates, self.channels)
        key = (*times, rates.device, self.frequencies.dtype)
        if key not in self._waves:
            waves = sinusoids(times, rates, self.channels)
            # What is of a tracer or of inference mode serves nobody else.
            if type(waves) is not Tensor or waves.is_inference():
                return waves
            if len(self._waves) == MAX_CACHED:
                self._waves.clear()
            self._waves[key] = waves
        return self._waves[key]
