"""Numbers that are none."""

from typing import Any, Dict, List

import torch


def not_finite(values: Dict[str, Any]) -> List[str]:
    """Names of what has a value that is infinite or not a number.

    Args:
        values (dict): Tensors, lists of tensors and anything else, by name.
    """
    return [
        name
        for name, value in values.items()
        for x in (value if isinstance(value, (list, tuple)) else [value])
        if isinstance(x, torch.Tensor) and not torch.isfinite(x).all()
    ]
