"""Functions that several distillation losses share."""

from typing import Tuple

from torch import Tensor

# Dimensions of samples and positions of maps (..., B, C, H, W), which may have
# a leading dimension of steps.
SAMPLE_DIMS = (-4, -2, -1)


def standardize(x: Tensor, dims: Tuple[int, ...], eps: float) -> Tensor:
    """Return a tensor with zero mean and unit variance over some dimensions.

    Args:
        x (Tensor): Any shape.
        dims (tuple[int]): Dimensions that mean and variance are taken over.
        eps (float): Lower bound of the standard deviation. Constant values
            become 0 instead of infinite.
    """
    centered = x - x.mean(dims, keepdim=True)
    variance = centered.square().mean(dims, keepdim=True)
    return centered * variance.clamp_min(eps**2).rsqrt()


def scale_by_temperature(
    logits: Tensor, temperature: float, standardized: bool
) -> Tensor:
    """Return logits divided by a temperature.

    Args:
        logits (Tensor): ``(..., classes)``.
        temperature (float): T.
        standardized (bool): Whether to standardize the logits of each sample
            first.
    """
    if standardized:
        logits = standardize(logits, (-1,), 1e-7)
    return logits / temperature


def kl_divergence(pred: Tensor, target: Tensor) -> Tensor:
    """Return KL(q || p) of student p and teacher q, averaged over all but the
    last dimension.

    Args:
        pred (Tensor): Log-probabilities log p, ``(..., outcomes)``.
        target (Tensor): Log-probabilities log q, with the trailing dimensions
            of ``pred``.
    """
    total = (target.exp() * (target - pred)).sum()
    return total / pred.shape[:-1].numel()
