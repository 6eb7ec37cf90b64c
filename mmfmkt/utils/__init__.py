"""Helpers that belong to no other room."""

from .stack import require

__all__ = ['require']
