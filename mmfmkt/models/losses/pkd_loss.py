"""PKD: General Distillation Framework for Object Detectors via Pearson
Correlation Coefficient (arXiv 2207.02039)."""

import torch.nn.functional as F
from torch import Tensor

from mmfmkt.registry import MODELS

from .base import BaseMetricLoss


def standardise(feature: Tensor, eps: float) -> Tensor:
    """Give each channel zero mean and unit variance over (N, H, W).

    Args:
        feature (Tensor): ``(N, C, H, W)``.
        eps (float): Smallest standard deviation that is divided by, so that
            a constant channel becomes zero rather than infinite.
    """
    centred = feature - feature.mean((0, 2, 3), keepdim=True)
    variance = centred.square().mean((0, 2, 3), keepdim=True)
    return centred * variance.clamp_min(eps**2).rsqrt()


@MODELS.register_module()
class PKDLoss(BaseMetricLoss):
    """Half the MSE of standardised features, which is 1 - r (Eq. 3).

    r is the Pearson correlation of a channel of the student with the same
    channel of the teacher over (N, H, W), averaged over channels.

    Args:
        eps (float): Smallest standard deviation that is divided by.
    """

    def __init__(self, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps

    def compare(self, pred: Tensor, target: Tensor) -> Tensor:
        """Compare feature maps ``(N, C, H, W)``.

        Raises:
            ValueError: If the tensors are not feature maps.
        """
        if pred.dim() != 4:
            raise ValueError('PKDLoss compares feature maps (N, C, H, W), '
                             f'but got a tensor of shape {tuple(pred.shape)}.')
        return F.mse_loss(
            standardise(pred, self.eps), standardise(target, self.eps)) / 2
