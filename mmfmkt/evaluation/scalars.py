"""Scalars among the metrics of an evaluation."""

from numbers import Real
from typing import Any, Dict, Mapping

from torch import Tensor


def scalar_metrics(metrics: Mapping[str, Any]) -> Dict[str, float]:
    """Return the metrics that are scalars, by name.

    Per-class metrics are lists, and a confusion matrix is a tensor.

    Args:
        metrics (Mapping): Result of an evaluator.
    """
    return {
        name: float(x)
        for name, x in metrics.items()
        if isinstance(x, Real) or (isinstance(x, Tensor) and not x.ndim)
    }
