"""What all metrics D(p, q) share: precision, checks and a fixed target."""

from abc import ABCMeta, abstractmethod

import torch
from torch import Tensor, nn


class BaseMetricLoss(nn.Module, metaclass=ABCMeta):
    """A metric-based distillation loss D(p, q).

    Computed in float32 or better whatever autocast says, since sums over
    whole feature maps overflow or lose their last digits in half precision.
    No gradient reaches the target.
    """

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Compare what the student gives with what the teacher gives.

        Args:
            pred (Tensor): p, of any floating type.
            target (Tensor): q, of the same shape; it is detached.

        Returns:
            Tensor: Scalar loss, float32 (float64 for float64 input).

        Raises:
            ValueError: If the shapes differ.
        """
        if pred.shape != target.shape:
            raise ValueError(
                f'{type(self).__name__} compares tensors of one shape, but '
                f'got {tuple(pred.shape)} and {tuple(target.shape)}.')
        dtype = torch.promote_types(pred.dtype, torch.float32)
        with torch.autocast(pred.device.type, enabled=False):
            return self.compare(pred.to(dtype), target.detach().to(dtype))

    @abstractmethod
    def compare(self, pred: Tensor, target: Tensor) -> Tensor:
        """Return D(pred, target); both float32 or float64, of one shape."""
