"""KD: Distilling the Knowledge in a Neural Network (arXiv 1503.02531)."""

import torch.nn.functional as F
from torch import Tensor

from ..bounds import Positive
from .base import BaseMetricLoss
from .correlation import divergence, tempered


class KDLoss(BaseMetricLoss):
    """T^2 KL(softmax(q / T) || softmax(p / T)), mean over the batch.

    Args:
        temperature (float): T; 4 is usual on CIFAR, 1 on ImageNet.
        standardise (bool): Whether logits have their mean taken away and are
            divided by their standard deviation first, sample by sample
            (Logit Standardization, arXiv 2403.01427, Algorithm 1).

    Examples:
        >>> student, teacher = torch.randn(2, 8, 10).unbind()
        >>> KDLoss(temperature=4.0)(student, teacher).shape
        torch.Size([])
    """

    spaces = ('logits',)
    takes_steps = True

    def __init__(
        self, temperature: Positive = 4.0, standardise: bool = False
    ) -> None:
        super().__init__()
        self.temperature, self.standardise = temperature, standardise

    def prepared(self, target: Tensor) -> Tensor:
        """Log-probabilities ``(..., N, classes)``."""
        scores = tempered(target, self.temperature, self.standardise)
        return F.log_softmax(scores, dim=-1)

    def compare(self, pred: Tensor, goal: Tensor) -> Tensor:
        return self.temperature**2 * divergence(self.prepared(pred), goal)
