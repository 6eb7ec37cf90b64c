"""KD: Distilling the Knowledge in a Neural Network (arXiv 1503.02531)."""

from typing import Optional

import torch.nn.functional as F
from torch import Tensor

from ..bounds import Positive
from ..deprecation import renamed_argument
from .base import BaseMetricLoss
from .functional import kl_divergence, scale_by_temperature


class KDLoss(BaseMetricLoss):
    """``T^2 KL(softmax(q / T) || softmax(p / T))``, mean over the batch
    (arXiv 1503.02531).

    p are the logits of the student, q those of the teacher.

    Args:
        temperature (float): T; 4 is usual on CIFAR, 1 on ImageNet.
        standardize (bool): Whether to standardize the logits of each sample
            first (Logit Standardization, arXiv 2403.01427, Algorithm 1).
        standardise (bool, optional): Former name of ``standardize``.

    Examples:
        >>> student, teacher = torch.randn(2, 8, 10).unbind()
        >>> KDLoss(temperature=4.0)(student, teacher).shape
        torch.Size([])
    """

    spaces = ('logits',)
    supports_step_dim = True

    def __init__(
        self,
        temperature: Positive = 4.0,
        standardize: bool = False,
        standardise: Optional[bool] = None,
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.standardize = renamed_argument(
            'standardise', standardise, 'standardize', standardize
        )

    def encode_target(self, target: Tensor) -> Tensor:
        """Return the teacher's log-probabilities."""
        return self._log_probabilities(target)

    def compute_loss(self, pred: Tensor, target: Tensor) -> Tensor:
        divergence = kl_divergence(self._log_probabilities(pred), target)
        return self.temperature**2 * divergence

    def _log_probabilities(self, outputs: Tensor) -> Tensor:
        """Return log-probabilities of logits, ``(..., B, classes)``."""
        scaled = scale_by_temperature(
            outputs, self.temperature, self.standardize
        )
        return F.log_softmax(scaled, dim=-1)
