"""PKD: General Distillation Framework for Object Detectors via Pearson
Correlation Coefficient (arXiv 2207.02039)."""

from typing import Any, NamedTuple, Optional, Tuple, Union

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ..bounds import Positive
from .base import BaseMetricLoss
from .distributed import num_processes, sum_over_processes
from .functional import SAMPLE_DIMS


class StandardizedMaps(NamedTuple):
    """Encoded target of PKD.

    Attributes:
        maps (Tensor): Channels with zero mean and unit variance, ``(B, C, H,
            W)``.
        power (Tensor): Mean square of each standardized channel, ``(1, C, 1,
            1)``: 1, or 0 for a constant channel.
    """

    maps: Tensor
    power: Tensor


class PKDLoss(BaseMetricLoss):
    """Half the MSE of standardized features, which is 1 - r, where r is
    the Pearson correlation (arXiv 2207.02039, Eq. 3).

    r is the Pearson correlation of a channel of the student with the same
    channel of the teacher over (B, H, W), averaged over channels.

    Args:
        eps (float): Lower bound of the standard deviations.
        sync (bool): Whether mean and variance are computed over the batches
            of all processes, as in SyncBN, or of each process separately. If
            True, the gradients equal those of a single process with the whole
            batch.

    Examples:
        >>> student, teacher = torch.randn(2, 4, 8, 5, 5).unbind()
        >>> loss = PKDLoss()
        >>> target = loss.prepare_target(teacher)  # once for many steps
        >>> torch.allclose(
        ...     loss.loss_from_prepared(student, target),
        ...     loss(student, teacher),
        ... )
        True
    """

    spaces = ('maps',)
    ignores_scale = True
    supports_step_dim = True

    def __init__(self, eps: Positive = 1e-6, sync: bool = False) -> None:
        super().__init__()
        self.eps, self.sync = eps, sync

    def encode_target(self, target: Tensor) -> StandardizedMaps:
        """Return the standardized maps and their mean squares."""
        count = samples_per_channel(target, self.sync)
        sums = target.sum(SAMPLE_DIMS, keepdim=True)
        maps = target - sum_over_processes(sums, self.sync) / count
        squares = maps.square().sum(SAMPLE_DIMS, keepdim=True)
        variance = sum_over_processes(squares, self.sync) / count
        factor = variance.clamp_min(self.eps**2).rsqrt()
        return StandardizedMaps(factor * maps, factor.square() * variance)

    def compute_loss(self, pred: Tensor, target: StandardizedMaps) -> Tensor:
        return HalfSquaredDistance.apply(pred, *target, self.eps, self.sync)


class HalfSquaredDistance(Function):
    """Half the mean of (y - g)^2 of standardized student maps y and
    standardized teacher maps g.

    Let p be a channel of the student, c = p - mean(p) and s = 1 / max(std(p),
    eps). Then y = s c, and the mean is ``s^2 mean(c^2) - 2 s mean(c g) +
    mean(g^2)``. Its gradient is a linear combination of c and g with two
    coefficients per channel. Backward therefore saves c and g only, and all
    steps share g. With a leading dimension of steps, each step has its own
    mean and standard deviation.
    """

    @staticmethod
    def forward(
        ctx: Any,
        pred: Tensor,
        target: Tensor,
        target_power: Tensor,
        eps: float,
        sync: bool,
    ) -> Tensor:
        count = samples_per_channel(pred, sync)
        sums = pred.sum(SAMPLE_DIMS, keepdim=True)
        centered = pred - sum_over_processes(sums, sync) / count
        norm = torch.linalg.vector_norm(
            centered, dim=SAMPLE_DIMS, keepdim=True
        )
        variance = sum_over_processes(norm.square(), sync) / count
        factor = variance.clamp_min(eps**2).rsqrt()
        power = factor.square() * variance
        products = (centered * target).sum(SAMPLE_DIMS, keepdim=True)
        correlation = factor * sum_over_processes(products, sync) / count
        # Up to a factor, the gradient with respect to y is y - g. Where s
        # depends on c, the mean of y^2 is constant at 1, and the gradient
        # with respect to c has no component along y: subtract it.
        along_y = torch.where(variance > eps**2, power - correlation, 0)
        # Data parallelism averages gradients over processes.
        target_coef = -factor * num_processes(sync) / (count * factor.numel())
        centered_coef = (along_y - 1) * factor * target_coef
        ctx.save_for_backward(centered, target, centered_coef, target_coef)
        squares = power - 2 * correlation + target_power
        # Rounding may make a distance of zero negative.
        return squares.clamp_min(0).mean() / 2

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tuple[Optional[Tensor], ...]:
        centered, target, centered_coef, target_coef = ctx.saved_tensors
        grad_pred = (grad * centered_coef * centered).add_(
            grad * target_coef * target
        )
        return grad_pred, None, None, None, None


def samples_per_channel(maps: Tensor, sync: bool) -> Union[float, Tensor]:
    """Return the number ``B H W`` of values of a channel in a batch, of all
    processes if ``sync`` is True."""
    count = maps.shape[-4] * maps.shape[-2] * maps.shape[-1]
    if num_processes(sync) == 1:
        return count
    return sum_over_processes(maps.new_tensor(count), sync)
