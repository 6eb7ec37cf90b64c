"""KD: Distilling the Knowledge in a Neural Network (arXiv 1503.02531)."""

import torch.nn.functional as F
from torch import Tensor

from mmfmkt.registry import MODELS
from mmfmkt.utils.schema import Positive

from .base import BaseMetricLoss


@MODELS.register_module()
class KDLoss(BaseMetricLoss):
    """T^2 KL(softmax(q / T) || softmax(p / T)), mean over the batch.

    Args:
        temperature (float): T; 4 is usual on CIFAR, 1 on ImageNet.

    Example:
        >>> student, teacher = torch.randn(2, 8, 10).unbind()
        >>> KDLoss(temperature=4.0)(student, teacher).shape
        torch.Size([])
    """

    spaces = ('logits',)

    def __init__(self, temperature: Positive = 4.0) -> None:
        super().__init__()
        self.temperature = temperature

    def prepared(self, target: Tensor) -> Tensor:
        """Log-probabilities ``(N, classes)``."""
        return F.log_softmax(target / self.temperature, dim=1)

    def compare(self, pred: Tensor, goal: Tensor) -> Tensor:
        return self.temperature**2 * F.kl_div(
            self.prepared(pred), goal, reduction='batchmean', log_target=True
        )
