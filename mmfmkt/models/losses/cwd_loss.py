"""CWD: Channel-wise Knowledge Distillation for Dense Prediction
(arXiv 2011.13256)."""

import torch.nn.functional as F
from torch import Tensor

from ..bounds import Positive
from .base import BaseMetricLoss
from .correlation import divergence


class CWDLoss(BaseMetricLoss):
    """T^2 KL between channels as distributions over places (Eqs. 3 and 4).

    Each channel becomes softmax(. / T) over (H, W); the divergence from the
    teacher's is averaged over samples and channels.

    Args:
        temperature (float): T.

    Examples:
        >>> student, teacher = torch.randn(2, 2, 8, 5, 5).unbind()
        >>> CWDLoss()(student, teacher).shape
        torch.Size([])
    """

    spaces = ('maps',)
    takes_steps = True

    def __init__(self, temperature: Positive = 1.0) -> None:
        super().__init__()
        self.temperature = temperature

    def prepared(self, target: Tensor) -> Tensor:
        """Log-probabilities of places, ``(..., C, H * W)``."""
        return F.log_softmax(target.flatten(-2) / self.temperature, dim=-1)

    def compare(self, pred: Tensor, goal: Tensor) -> Tensor:
        return self.temperature**2 * divergence(self.prepared(pred), goal)
