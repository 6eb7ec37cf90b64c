"""Unoptimized reference implementation of FM-KT, the baseline of timings.

A loop over the sampling steps computes the published formula of PKD in each,
as in Algorithm 1 of the paper. Weights are copied from an encoder of the
library, so that both compute the same values.
"""

import math
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmfmkt.models.flows import MetaEncoder, MLPEncoder


class ReferenceEncoder(nn.Module):
    """Meta-encoder as a sequence of layers, without in-place operations.

    Args:
        encoder (MetaEncoder): Encoder whose weights are copied.
    """

    def __init__(self, encoder: MetaEncoder) -> None:
        super().__init__()
        self.projection = deepcopy(encoder.time_embedding.proj)
        self.layers = deepcopy(nn.Sequential(*encoder.layers))
        self.is_mlp = isinstance(encoder, MLPEncoder)
        for module in self.layers.modules():
            if isinstance(module, nn.ReLU):
                module.inplace = False

    def embed(self, t: float, state: Tensor) -> Tensor:
        """Return the sinusoidal time embedding ``(C, 1, 1)``."""
        half = state.shape[1] // 2
        rates = torch.exp(-math.log(1e4) * torch.arange(half) / half)
        angles = t * rates.to(state)
        time = torch.cat([angles.cos(), angles.sin()])
        return self.projection(time)[:, None, None]

    def forward(self, state: Tensor, t: float) -> Tensor:
        x = state + self.embed(t, state)
        if not self.is_mlp:
            return self.layers(x)
        for layer in self.layers:
            x = layer(x.movedim(1, -1)).movedim(-1, 1)
        return x


def normalize(feature: Tensor) -> Tensor:
    """Normalize channels to zero mean and unit variance (PKD, Eq. 3)."""
    mean = feature.mean((0, 2, 3), keepdim=True)
    std = feature.std((0, 2, 3), keepdim=True, unbiased=False)
    return (feature - mean) / (std + 1e-6)


def train(
    encoder: ReferenceEncoder, source: Tensor, target: Tensor, num_steps: int
) -> tuple:
    """Compute the training loss of Algorithm 1 under rectified flow, with PKD.

    Args:
        encoder (ReferenceEncoder): Predicts the velocity.
        source (Tensor): Feature map of the student, ``(B, C, H, W)``.
        target (Tensor): Feature map of the teacher, of the same shape.
        num_steps (int): Number of training steps N.

    Returns:
        tuple[Tensor, Tensor]: Loss and output, the mean of the estimates.
    """
    state, losses, estimates = source, [], []
    for i in range(num_steps, 0, -1):
        velocity = encoder(state, i / num_steps)
        estimate = source - velocity
        pair = normalize(estimate), normalize(target.detach())
        losses.append(F.mse_loss(*pair) / 2)
        estimates.append(estimate)
        state = state - velocity / num_steps
    return torch.stack(losses).mean(), torch.stack(estimates).mean(0)
