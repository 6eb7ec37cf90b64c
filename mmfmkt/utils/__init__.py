"""Utilities shared by all packages."""

from .errors import ConfigError
from .stack import require

__all__ = ['ConfigError', 'require']
