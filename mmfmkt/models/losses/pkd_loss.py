"""PKD: General Distillation Framework for Object Detectors via Pearson
Correlation Coefficient (arXiv 2207.02039)."""

from typing import NamedTuple, Tuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mmfmkt.registry import MODELS

from .base import BaseMetricLoss
from .correlation import standardise

PLACES = (0, 2, 3)


class Standardised(NamedTuple):
    """A target of PKD.

    Attributes:
        maps (Tensor): Each channel with zero mean and unit variance, ``(N,
            C, H, W)``.
        mean (Tensor): What is left of the means, ``(1, C, 1, 1)``.
        power (Tensor): Mean squares of the channels, ``(1, C, 1, 1)``.
    """

    maps: Tensor
    mean: Tensor
    power: Tensor


@MODELS.register_module()
class PKDLoss(BaseMetricLoss):
    """Half the MSE of standardised features, which is 1 - r (Eq. 3).

    r is the Pearson correlation of a channel of the student with the same
    channel of the teacher over (N, H, W), averaged over channels.

    Args:
        eps (float): Smallest standard deviation that is divided by.

    Example:
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

    def __init__(self, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps

    def prepared(self, target: Tensor) -> Standardised:
        maps = standardise(target, PLACES, self.eps)
        return Standardised(
            maps,
            maps.mean(PLACES, keepdim=True),
            maps.square().mean(PLACES, keepdim=True),
        )

    def compare(self, pred: Tensor, goal: Standardised) -> Tensor:
        return HalfSquaredDistance.apply(pred, *goal, self.eps)


class HalfSquaredDistance(Function):
    """Half the mean of (y - g)^2, y being p standardised.

    With the factor s = 1 / max(std, eps) of a channel, y = s (p - mean p),
    the sum is ``s^2 var p - 2 s cov(p, g) + mean g^2``, and its gradient is a
    mixture of p and g per channel, so that p is all that is kept, and no map
    is written on the way.
    """

    @staticmethod
    def forward(
        ctx,
        pred: Tensor,
        goal: Tensor,
        goal_mean: Tensor,
        goal_power: Tensor,
        eps: float,
    ) -> Tensor:
        variance, mean = torch.var_mean(
            pred, PLACES, correction=0, keepdim=True
        )
        factor = variance.clamp_min(eps**2).rsqrt()
        product = (pred * goal).mean(PLACES, keepdim=True) - mean * goal_mean
        correlation = factor * product
        power = factor.square() * variance
        # Of y: y - g. Through the factor of a channel that varies: minus its
        # part along y, of which y^2 has the mean 1.
        along = torch.where(variance > eps**2, power - correlation, 0)
        unit = factor / pred.numel()
        of_pred = unit * factor * (1 - along)
        rest = unit * goal_mean - of_pred * mean
        ctx.save_for_backward(pred, goal, unit, of_pred, rest)
        return (power - 2 * correlation + goal_power).mean() / 2

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> Tuple[Tensor, ...]:
        pred, goal, unit, of_pred, rest = ctx.saved_tensors
        scaled = torch.addcmul(grad * rest, pred, grad * of_pred)
        return scaled.addcmul_(goal, -grad * unit), None, None, None, None
