"""Helpers that belong to no other room."""

from .errors import ConfigError
from .stack import require

__all__ = ['ConfigError', 'require']
