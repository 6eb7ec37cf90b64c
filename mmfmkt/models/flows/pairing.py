"""Pair decoupling: which teacher sample a student sample is led to."""

from typing import Optional

import torch
from torch import Tensor


def decouple_pairs(
    batch_size: int, dirac_ratio: float, device: Optional[torch.device] = None
) -> Tensor:
    """Draw the order in which the teacher's samples are handed out.

    The first ``int(dirac_ratio * batch_size)`` samples keep their own
    student, the others are permuted among themselves (section 2, "Pair
    decoupling"). An index leaves the teacher's tensor as it is, and one
    index serves all levels of a pyramid.

    Args:
        batch_size (int): B.
        dirac_ratio (float): beta_d in [0, 1]; 1 keeps every pair.
        device (torch.device, optional): Where the index is wanted.

    Returns:
        Tensor: Indices ``(B, )``, int64.
    """
    kept = int(dirac_ratio * batch_size)
    order = torch.arange(batch_size, device=device)
    order[kept:] = kept + torch.randperm(batch_size - kept, device=device)
    return order
