"""PKD: General Distillation Framework for Object Detectors via Pearson
Correlation Coefficient (arXiv 2207.02039)."""

import torch.nn.functional as F
from torch import Tensor

from mmfmkt.registry import MODELS

from .base import BaseMetricLoss
from .correlation import standardise


@MODELS.register_module()
class PKDLoss(BaseMetricLoss):
    """Half the MSE of standardised features, which is 1 - r (Eq. 3).

    r is the Pearson correlation of a channel of the student with the same
    channel of the teacher over (N, H, W), averaged over channels.

    Args:
        eps (float): Smallest standard deviation that is divided by.
    """

    spaces = ('maps',)
    ignores_scale = True

    def __init__(self, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps

    def prepared(self, target: Tensor) -> Tensor:
        """Each channel with zero mean and unit variance."""
        return standardise(target, (0, 2, 3), self.eps)

    def compare(self, pred: Tensor, goal: Tensor) -> Tensor:
        return F.mse_loss(self.prepared(pred), goal) / 2
