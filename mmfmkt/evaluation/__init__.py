"""Metrics."""

from .scalars import scalar_metrics
from .step_accuracy import StepAccuracy

__all__ = ['StepAccuracy', 'scalar_metrics']
