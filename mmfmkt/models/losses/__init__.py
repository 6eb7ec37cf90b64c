"""Distillation losses D(p, q) between student and teacher."""

from .base import BaseMetricLoss, PreparedTarget
from .cross_kd_loss import CrossKDLoss
from .cwd_loss import CWDLoss
from .dist_loss import DISTLoss
from .dkd_loss import DKDLoss
from .kd_loss import KDLoss
from .mse_loss import MSELoss
from .pkd_loss import PKDLoss

__all__ = [
    'BaseMetricLoss',
    'CWDLoss',
    'CrossKDLoss',
    'DISTLoss',
    'DKDLoss',
    'KDLoss',
    'MSELoss',
    'PKDLoss',
    'PreparedTarget',
]
