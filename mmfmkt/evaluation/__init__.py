"""Metrics."""

from .step_accuracy import StepAccuracy

__all__ = ['StepAccuracy']
