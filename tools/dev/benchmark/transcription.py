"""The method as it is written down: what the library is measured against.

A loop over the steps, the metric's published formula for student and teacher
in each of them, lists that are stacked at the end; nothing clever. Weights
are those of the library's own encoder, so that both give the same values.
"""

import math
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmfmkt.models.flows import MetaEncoder, MLPEncoder


class PlainEncoder(nn.Module):
    """An encoder's layers one after the other, each writing its own output.

    Args:
        encoder (MetaEncoder): Whose weights are copied.
    """

    def __init__(self, encoder: MetaEncoder) -> None:
        super().__init__()
        self.projection = deepcopy(encoder.time_embedding.proj)
        self.layers = deepcopy(nn.Sequential(*encoder.layers))
        self.on_channels = isinstance(encoder, MLPEncoder)
        for module in self.layers.modules():
            if isinstance(module, nn.ReLU):
                module.inplace = False

    def embed(self, t: float, like: Tensor) -> Tensor:
        """Sinusoids of the time, one number per channel."""
        half = like.shape[1] // 2
        rates = torch.exp(-math.log(1e4) * torch.arange(half) / half)
        angles = t * rates.to(like)
        time = torch.cat([angles.cos(), angles.sin()])
        return self.projection(time)[:, None, None]

    def forward(self, state: Tensor, t: float) -> Tensor:
        x = state + self.embed(t, state)
        if not self.on_channels:
            return self.layers(x)
        for layer in self.layers:
            x = layer(x.movedim(1, -1)).movedim(-1, 1)
        return x


def normalise(feature: Tensor) -> Tensor:
    """Each channel with zero mean and unit variance (PKD, Eq. 3)."""
    mean = feature.mean((0, 2, 3), keepdim=True)
    std = feature.std((0, 2, 3), keepdim=True, unbiased=False)
    return (feature - mean) / (std + 1e-6)


def train(
    encoder: PlainEncoder, source: Tensor, target: Tensor, num_steps: int
) -> tuple:
    """Algorithm 1 under rectified flow, with PKD: loss and output.

    Args:
        encoder (PlainEncoder): Predicts the velocity.
        source (Tensor): The student's map, ``(B, C, H, W)``.
        target (Tensor): The teacher's, the same shape.
        num_steps (int): N.
    """
    state, losses, estimates = source, [], []
    for i in range(num_steps, 0, -1):
        velocity = encoder(state, i / num_steps)
        estimate = source - velocity
        pair = normalise(estimate), normalise(target.detach())
        losses.append(F.mse_loss(*pair) / 2)
        estimates.append(estimate)
        state = state - velocity / num_steps
    return torch.stack(losses).mean(), torch.stack(estimates).mean(0)
