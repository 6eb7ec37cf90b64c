"""Distillation losses D(p, q) between student output p and teacher output
q."""

from .base import BaseMetricLoss, PreparedTarget
from .cosine_loss import CosineLoss
from .cross_kd_loss import CrossKDLoss
from .cwd_loss import CWDLoss
from .dist_loss import DISTLoss
from .dkd_loss import DKDLoss
from .kd_loss import KDLoss
from .mse_loss import MSELoss
from .pkd_loss import PKDLoss
from .weighted_sum_loss import WeightedSumLoss

__all__ = [
    'BaseMetricLoss',
    'CWDLoss',
    'CosineLoss',
    'CrossKDLoss',
    'DISTLoss',
    'DKDLoss',
    'KDLoss',
    'MSELoss',
    'PKDLoss',
    'PreparedTarget',
    'WeightedSumLoss',
]
