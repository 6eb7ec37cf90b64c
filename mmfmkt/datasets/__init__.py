"""Datasets; this package exports the synthetic shapes."""

from .shapes import *  # noqa: F401,F403
