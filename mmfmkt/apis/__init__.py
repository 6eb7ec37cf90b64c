"""What users call: exporting students and loading detectors."""

from .export import Exported, export_student
from .inference import init_detector

__all__ = ['Exported', 'export_student', 'init_detector']
