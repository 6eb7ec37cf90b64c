"""Statistics of a batch that several processes share."""

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.nn.functional import all_gather


def processes(sync: bool) -> int:
    """How many processes share a batch.

    Args:
        sync (bool): Whether they do.
    """
    return dist.get_world_size() if sync and dist.is_initialized() else 1


def summed(value: Tensor, sync: bool) -> Tensor:
    """The sum over all processes, of no gradient.

    Args:
        value (Tensor): What this one has.
        sync (bool): Whether there are others.
    """
    if processes(sync) > 1:
        value = value.clone()
        dist.all_reduce(value)
    return value


def gathered(samples: Tensor, sync: bool, dim: int = 0) -> Tensor:
    """The samples of all processes, one process behind the other.

    The gradient of each process's own is the sum of what all of them have of
    it, so that the mean over processes is that of the whole batch.

    Args:
        samples (Tensor): What this one has, as many as the others.
        sync (bool): Whether there are others.
        dim (int): Which dimension is of samples.
    """
    if processes(sync) == 1:
        return samples
    if samples.requires_grad:
        return torch.cat(all_gather(samples), dim)
    parts = [torch.empty_like(samples) for _ in range(processes(sync))]
    dist.all_gather(parts, samples.contiguous())
    return torch.cat(parts, dim)
