"""Batch statistics over the processes of distributed training."""

import torch
import torch.distributed as dist
from torch import Tensor


def num_processes(sync: bool) -> int:
    """Return the number of processes over which statistics are computed.

    Args:
        sync (bool): Whether statistics are those of all processes.
    """
    return dist.get_world_size() if sync and dist.is_initialized() else 1


def sum_over_processes(value: Tensor, sync: bool) -> Tensor:
    """Return the sum over all processes, without gradient.

    Args:
        value (Tensor): Value of this process.
        sync (bool): Whether to add the values of the other processes.
    """
    if num_processes(sync) > 1:
        value = value.clone()
        dist.all_reduce(value)
    return value


def gather_samples(samples: Tensor, sync: bool, dim: int) -> Tensor:
    """Concatenate the samples of all processes.

    The gradient of a process's samples is the sum of the gradients that all
    processes compute for them. After DDP has averaged the gradients of the
    parameters, they equal those of one process with the whole batch.

    Args:
        samples (Tensor): Samples of this process. All processes must have
            the same number of samples.
        sync (bool): Whether to include the samples of the other processes.
        dim (int): Dimension of the batch.
    """
    if num_processes(sync) == 1:
        return samples
    # Imported here: builds of PyTorch without distributed training lack it.
    from torch.distributed.nn.functional import all_gather

    return torch.cat(all_gather(samples), dim)
