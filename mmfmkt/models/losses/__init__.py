"""The metrics D(p, q) between student and teacher."""

from .base import BaseMetricLoss
from .mse_loss import MSELoss
from .pkd_loss import PKDLoss

__all__ = ['BaseMetricLoss', 'MSELoss', 'PKDLoss']
