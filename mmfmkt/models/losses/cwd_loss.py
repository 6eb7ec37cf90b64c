"""CWD: Channel-wise Knowledge Distillation for Dense Prediction
(arXiv 2011.13256)."""

import torch.nn.functional as F
from torch import Tensor

from ..bounds import Positive
from .base import BaseMetricLoss
from .functional import kl_divergence


class CWDLoss(BaseMetricLoss):
    """T^2 KL divergence between channels as distributions (Eqs. 3 and 4).

    Each channel becomes softmax(. / T) over (H, W). The KL divergence from
    the teacher's channels is averaged over samples and channels.

    Args:
        temperature (float): T.

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
        """Return log-probabilities of positions, ``(..., C, H * W)``."""
        return F.log_softmax(target.flatten(-2) / self.temperature, dim=-1)

    def compute_loss(self, pred: Tensor, target: Tensor) -> Tensor:
        divergence = kl_divergence(self.encode_target(pred), target)
        return self.temperature**2 * divergence
