"""Pair decoupling: permute the teacher samples of a batch."""

from typing import Optional

import torch
from torch import Tensor


def decouple_pairs(
    batch_size: int, dirac_ratio: float, device: Optional[torch.device] = None
) -> Tensor:
    """Draw a permutation of the teacher samples.

    The first ``int(dirac_ratio * batch_size)`` student samples keep the
    teacher sample of the same image; the other teacher samples are permuted
    among themselves, and some may stay in place. All levels of a pyramid use
    one permutation.

    Args:
        batch_size (int): B.
        dirac_ratio (float): beta_d in [0, 1]; 1 keeps every pair.
        device (torch.device, optional): Device of the indices.

    Returns:
        Tensor: Index of the teacher sample of each student sample, ``(B, )``,
        int64.
    """
    num_kept = int(dirac_ratio * batch_size)
    permutation = torch.arange(batch_size, device=device)
    permutation[num_kept:] = num_kept + torch.randperm(
        batch_size - num_kept, device=device
    )
    return permutation
