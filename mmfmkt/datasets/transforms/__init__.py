"""Transforms of data pipelines."""

from .recorded_views import RecordedViews

__all__ = ['RecordedViews']
