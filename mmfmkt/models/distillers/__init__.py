"""What wires a teacher, a student and flows together."""

from .detection import DetectionDistiller

__all__ = ['DetectionDistiller']
