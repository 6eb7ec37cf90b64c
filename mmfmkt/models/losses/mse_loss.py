"""Mean squared error."""

import torch.nn.functional as F
from torch import Tensor

from .base import BaseMetricLoss


class MSELoss(BaseMetricLoss):
    """Mean squared error of student and teacher output, ``mean (p - q)^2``.

    Examples:
        >>> MSELoss()(torch.zeros(2, 3), torch.ones(2, 3))
        tensor(1.)
    """

    supports_step_dim = True

    def compute_loss(self, pred: Tensor, target: Tensor) -> Tensor:
        return F.mse_loss(pred, target.expand_as(pred))
