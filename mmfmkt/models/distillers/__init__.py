"""What wires a teacher, a student and flows together."""

from .classification import ClassificationDistiller
from .detection import DetectionDistiller

__all__ = ['ClassificationDistiller', 'DetectionDistiller']
