"""PKD: General Distillation Framework for Object Detectors via Pearson
Correlation Coefficient (arXiv 2207.02039)."""

from typing import Any, NamedTuple, Optional, Tuple, Union

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ..bounds import Positive
from .base import BaseMetricLoss
from .processes import processes, summed

# Of a batch of maps, behind a dimension of steps where there is one.
PLACES = (-4, -2, -1)


class Standardised(NamedTuple):
    """A target of PKD.

    Attributes:
        maps (Tensor): Each channel with zero mean and unit variance, ``(N,
            C, H, W)``.
        power (Tensor): Mean squares of the channels, ``(1, C, 1, 1)``: 1, or
            0 where nothing varies.
    """

    maps: Tensor
    power: Tensor


class PKDLoss(BaseMetricLoss):
    """Half the MSE of standardised features, which is 1 - r (Eq. 3).

    r is the Pearson correlation of a channel of the student with the same
    channel of the teacher over (N, H, W), averaged over channels.

    Args:
        eps (float): Smallest standard deviation that is divided by.
        sync (bool): Whether the statistics are of the batches of all
            processes, as in SyncBN, instead of each process's own. Then
            several processes give the gradients of one with all of the
            batch.

    Examples:
        >>> student, teacher = torch.randn(2, 4, 8, 5, 5).unbind()
        >>> metric = PKDLoss()
        >>> goal = metric.prepare(teacher)  # once for many comparisons
        >>> torch.allclose(
        ...     metric.measure(student, goal), metric(student, teacher)
        ... )
        True
    """

    spaces = ('maps',)
    ignores_scale = True
    takes_steps = True

    def __init__(self, eps: Positive = 1e-6, sync: bool = False) -> None:
        super().__init__()
        self.eps, self.sync = eps, sync

    def prepared(self, target: Tensor) -> Standardised:
        places = places_of(target, self.sync)
        sums = target.sum(PLACES, keepdim=True)
        maps = target - summed(sums, self.sync) / places
        squares = maps.square().sum(PLACES, keepdim=True)
        variance = summed(squares, self.sync) / places
        factor = variance.clamp_min(self.eps**2).rsqrt()
        return Standardised(factor * maps, factor.square() * variance)

    def compare(self, pred: Tensor, goal: Standardised) -> Tensor:
        return HalfSquaredDistance.apply(pred, *goal, self.eps, self.sync)


class HalfSquaredDistance(Function):
    """Half the mean of (y - g)^2, y being p standardised.

    With c = p - mean p and the factor s = 1 / max(std, eps) of a channel, y
    = s c, and the mean is ``s^2 mean c^2 - 2 s mean c g + mean g^2``. Its
    gradient mixes c and g by two numbers per channel, so that c is all that
    is kept beside a goal that all steps share. A leading dimension of steps
    has statistics of its own for each step.
    """

    @staticmethod
    def forward(
        ctx: Any,
        pred: Tensor,
        goal: Tensor,
        goal_power: Tensor,
        eps: float,
        sync: bool,
    ) -> Tensor:
        places = places_of(pred, sync)
        sums = pred.sum(PLACES, keepdim=True)
        centred = pred - summed(sums, sync) / places
        norm = torch.linalg.vector_norm(centred, dim=PLACES, keepdim=True)
        variance = summed(norm.square(), sync) / places
        factor = variance.clamp_min(eps**2).rsqrt()
        power = factor.square() * variance
        products = (centred * goal).sum(PLACES, keepdim=True)
        correlation = factor * summed(products, sync) / places
        # The gradient in y is y - g; that in c has no part along y, where
        # the factor follows c: y^2 has the mean 1 there.
        along = torch.where(variance > eps**2, power - correlation, 0)
        # Data parallelism takes the mean over processes, not the sum.
        of_goal = -factor * processes(sync) / (places * factor.numel())
        of_centred = (along - 1) * factor * of_goal
        ctx.save_for_backward(centred, goal, of_centred, of_goal)
        squares = power - 2 * correlation + goal_power
        # What rounding leaves of a distance of zero is not below it.
        return squares.clamp_min(0).mean() / 2

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tuple[Optional[Tensor], ...]:
        centred, goal, of_centred, of_goal = ctx.saved_tensors
        mixed = (grad * of_centred * centred).add_(grad * of_goal * goal)
        return mixed, None, None, None, None


def places_of(maps: Tensor, sync: bool) -> Union[float, Tensor]:
    """How many places a channel has in a batch, ``(N, H, W)`` together."""
    own = maps.shape[-4] * maps.shape[-2] * maps.shape[-1]
    return own if processes(sync) == 1 else summed(maps.new_tensor(own), sync)
