"""Distillers: models of a student, its flows and a teacher."""

from .classification import ClassificationDistiller
from .detection import DetectionDistiller

__all__ = ['ClassificationDistiller', 'DetectionDistiller']
