"""Mean squared error as a metric."""

import torch.nn.functional as F
from torch import Tensor

from .base import BaseMetricLoss


class MSELoss(BaseMetricLoss):
    """D(p, q) = mean of (p - q)^2: the NLL of a Gaussian up to constants.

    Examples:
        >>> MSELoss()(torch.zeros(2, 3), torch.ones(2, 3))
        tensor(1.)
    """

    takes_steps = True

    def compare(self, pred: Tensor, goal: Tensor) -> Tensor:
        return F.mse_loss(pred, goal.expand_as(pred))
