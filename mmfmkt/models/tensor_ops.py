"""Tensor operations that flows and losses share."""

from typing import Sequence

import torch
from torch import Tensor


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """Return float64 for float64, and float32 for all other types."""
    return torch.promote_types(dtype, torch.float32)


def sequential_sum(tensors: Sequence[Tensor]) -> Tensor:
    """Return the sum of tensors, added in order without stacking them.

    Args:
        tensors (Sequence[Tensor]): One or more tensors of one shape.
    """
    return sum(tensors[1:], tensors[0])


def select_classes(x: Tensor, classes: Tensor, count: int) -> Tensor:
    """Return some classes of class maps or logits, in a given order.

    Args:
        x (Tensor): Maps ``(..., anchors * count, H, W)``, with the classes of
            an anchor next to each other, or logits ``(..., count)``. The
            dots are the batch, or steps and batch.
        classes (Tensor): Indices of the selected classes.
        count (int): Number of all classes in ``x``.
    """
    dim = x.dim() - (3 if x.dim() >= 4 else 1)
    selected = x.unflatten(dim, (-1, count)).index_select(dim + 1, classes)
    return selected.flatten(dim, dim + 1)


def linear_combination(a: float, x: Tensor, b: float, y: Tensor) -> Tensor:
    """Return ``a x + b y`` in as few passes over memory as possible.

    Args:
        a (float): Factor of ``x``. If it is 0, gradients do not reach ``x``.
        x (Tensor): Any shape.
        b (float): Factor of ``y``, not 0.
        y (Tensor): Shape of ``x``.
    """
    if a == 0:
        return y if b == 1 else b * y
    if a == 1:
        return x - y if b == -1 else x.add(y, alpha=b)
    return y.add(x, alpha=a) if b == 1 else (a * x).add(y, alpha=b)
