"""Sinusoidal embedding of the flow's time."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def sinusoids(t: float, dim: int, max_period: float = 1e4) -> Tensor:
    """Cosines and sines of ``t`` at geometrically spaced frequencies.

    Args:
        t (float): Time in [0, 1].
        dim (int): Length of the result; an odd one ends in a zero.
        max_period (float): Longest period.

    Returns:
        Tensor: ``(dim, )``, float32.
    """
    half = dim // 2
    frequencies = torch.exp(
        -math.log(max_period) * torch.arange(half) / max(half, 1))
    angles = t * frequencies
    return F.pad(torch.cat([angles.cos(), angles.sin()]), (0, dim % 2))


class TimeEmbedding(nn.Module):
    """Time as one number per channel: sinusoids, then linear layers.

    Args:
        channels (int): C, the channels that the embedding is added to.
        deep (bool): Whether to use Linear-ReLU-Linear instead of Linear.
    """

    def __init__(self, channels: int, deep: bool = False) -> None:
        super().__init__()
        self.channels = channels
        self.proj = nn.Linear(channels, channels)
        if deep:
            self.proj = nn.Sequential(self.proj, nn.ReLU(),
                                      nn.Linear(channels, channels))

    def forward(self, t: float) -> Tensor:
        """Return the embedding of ``t`` in [0, 1], shape ``(C, )``."""
        like = next(self.parameters())
        return self.proj(sinusoids(t, self.channels).to(like))
