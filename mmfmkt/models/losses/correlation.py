"""What metrics of distributions and correlations share."""

from typing import Sequence

from torch import Tensor


def standardize(x: Tensor, dims: Sequence[int], eps: float) -> Tensor:
    """Zero mean and unit variance over some dimensions.

    Args:
        x (Tensor): Any shape.
        dims (Sequence[int]): Dimensions of the statistics.
        eps (float): Smallest standard deviation that is divided by, so that
            what is constant becomes zero rather than infinite.
    """
    centred = x - x.mean(dims, keepdim=True)
    variance = centred.square().mean(dims, keepdim=True)
    return centred * variance.clamp_min(eps**2).rsqrt()


def tempered(logits: Tensor, temperature: float, scores: bool) -> Tensor:
    """Logits over a temperature, of a sample's standard scores if asked for.

    Args:
        logits (Tensor): ``(..., classes)``.
        temperature (float): T.
        scores (bool): Whether they are standardised first.
    """
    if scores:
        logits = standardize(logits, (-1,), 1e-7)
    return logits / temperature


def divergence(pred: Tensor, target: Tensor) -> Tensor:
    """KL(q || p) of log-probabilities, mean over all but the last dimension.

    Args:
        pred (Tensor): log p, ``(..., outcomes)``.
        target (Tensor): log q, of trailing dimensions of ``pred``.
    """
    total = (target.exp() * (target - pred)).sum()
    return total / pred.shape[:-1].numel()
