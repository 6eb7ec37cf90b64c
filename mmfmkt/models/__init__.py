"""Packages of flows, losses, distillers and CIFAR backbones.

``flows`` and ``losses`` need PyTorch alone, so nothing is imported here.
"""

import warnings
from importlib import import_module
from typing import Any

PACKAGES = ('flows', 'losses', 'backbones', 'distillers')


def __getattr__(name: str) -> Any:
    """Return a class from its package, as version 0.1 exported it here."""
    if name[0].isupper():
        for package in PACKAGES:
            module = import_module(f'{__name__}.{package}')
            if name in module.__all__:
                warnings.warn(
                    f'mmfmkt.models.{name} will be removed; import it from '
                    f'{module.__name__}.',
                    FutureWarning,
                    stacklevel=2,
                )
                return getattr(module, name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
