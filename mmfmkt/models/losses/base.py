"""What all metrics D(p, q) share: precision, checks and a fixed target."""

from abc import ABCMeta, abstractmethod
from typing import Optional

import torch
from torch import Tensor, nn


class BaseMetricLoss(nn.Module, metaclass=ABCMeta):
    """A metric-based distillation loss D(p, q).

    Computed in float32 or better whatever autocast says, since sums over
    whole feature maps overflow or lose their last digits in half precision.
    No gradient reaches the target.

    Attributes:
        spaces (tuple[str]): What it compares: ``'maps'`` (N, C, H, W),
            ``'vectors'`` (N, C), ``'logits'`` (N, classes).
        needs_labels (bool): Whether it needs the class of each sample.
        ignores_scale (bool): Whether a factor on p changes nothing.
    """

    spaces = ('maps', 'vectors', 'logits')
    needs_labels = False
    ignores_scale = False

    def forward(self,
                pred: Tensor,
                target: Tensor,
                labels: Optional[Tensor] = None) -> Tensor:
        """Compare what the student gives with what the teacher gives.

        Args:
            pred (Tensor): p, of any floating type.
            target (Tensor): q, of the same shape; it is detached.
            labels (Tensor, optional): Classes ``(N, )``, or probabilities
                ``(N, classes)`` of which the largest counts; for metrics
                that need them.

        Returns:
            Tensor: Scalar loss, float32 (float64 for float64 input).

        Raises:
            ValueError: If the shapes differ or are none that the metric
                compares, or if labels are missing.
        """
        name = type(self).__name__
        if pred.shape != target.shape:
            raise ValueError(
                f'{name} compares tensors of one shape, but got '
                f'{tuple(pred.shape)} and {tuple(target.shape)}.')
        if pred.dim() != 4 and self.spaces == ('maps', ):
            raise ValueError(f'{name} compares feature maps (N, C, H, W), '
                             f'but got a tensor of shape {tuple(pred.shape)}.')
        if pred.dim() != 2 and 'maps' not in self.spaces:
            raise ValueError(f'{name} compares logits (N, classes), but got '
                             f'a tensor of shape {tuple(pred.shape)}.')
        if self.needs_labels and labels is None:
            raise ValueError(f'{name} needs labels, but got none.')
        if labels is not None and labels.dim() == 2:
            labels = labels.argmax(1)
        # float32, or float64 where the input is.
        dtype = torch.promote_types(pred.dtype, torch.float32)
        with torch.autocast(pred.device.type, enabled=False):
            return self.compare(
                pred.to(dtype),
                target.detach().to(dtype),
                **(dict(labels=labels) if self.needs_labels else {}))

    @abstractmethod
    def compare(self, pred: Tensor, target: Tensor) -> Tensor:
        """Return D(pred, target); both float32 or float64, of one shape.

        A metric that needs labels takes ``labels`` ``(N, )`` as well.
        """
