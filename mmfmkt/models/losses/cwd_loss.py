"""CWD: Channel-wise Knowledge Distillation for Dense Prediction
(arXiv 2011.13256)."""

import torch.nn.functional as F
from torch import Tensor

from ..bounds import Positive
from .kd_loss import KDLoss


class CWDLoss(KDLoss):
    """``T^2 KL(softmax(q / T) || softmax(p / T))`` of each channel over
    positions (arXiv 2011.13256, Eqs. 3, 4).

    p are the maps of the student, q those of the teacher. As in `KDLoss`, but
    each channel is a distribution over the positions (H, W), and the mean is
    over samples and channels.

    Args:
        temperature (float): T.

    Examples:
        >>> student, teacher = torch.randn(2, 2, 8, 5, 5).unbind()
        >>> CWDLoss()(student, teacher).shape
        torch.Size([])
    """

    spaces = ('maps',)

    def __init__(self, temperature: Positive = 1.0) -> None:
        super().__init__(temperature)

    def _log_probabilities(self, outputs: Tensor) -> Tensor:
        """Return log-probabilities of positions, ``(..., C, H * W)``."""
        return F.log_softmax(outputs.flatten(-2) / self.temperature, dim=-1)
