"""CWD: Channel-wise Knowledge Distillation for Dense Prediction
(arXiv 2011.13256)."""

import torch.nn.functional as F
from torch import Tensor

from ..bounds import Positive
from .base import BaseMetricLoss
from .functional import kl_divergence


class CWDLoss(BaseMetricLoss):
    """T^2 KL divergence between channels as distributions (Eqs. 3 and 4).

    A softmax over (H, W), at temperature T, turns each channel into a
    distribution over positions. The KL divergence between the teacher's and
    the student's is averaged over samples and channels.

    Args:
        temperature (float): Temperature T of the softmax.

    Examples:
        >>> student, teacher = torch.randn(2, 2, 8, 5, 5).unbind()
        >>> CWDLoss()(student, teacher).shape
        torch.Size([])
    """

    spaces = ('maps',)
    supports_step_dim = True

    def __init__(self, temperature: Positive = 1.0) -> None:
        super().__init__()
        self.temperature = temperature

    def encode_target(self, target: Tensor) -> Tensor:
        """Return the teacher's log-probabilities ``(B, C, H * W)``."""
        return self._log_probabilities(target)

    def compute_loss(self, pred: Tensor, target: Tensor) -> Tensor:
        divergence = kl_divergence(self._log_probabilities(pred), target)
        return self.temperature**2 * divergence

    def _log_probabilities(self, maps: Tensor) -> Tensor:
        """Return log-probabilities of positions, ``(..., C, H * W)``."""
        return F.log_softmax(maps.flatten(-2) / self.temperature, dim=-1)
