"""What users call: exporting students, converting published teachers and
loading detectors."""

from .convert import classifier_config, convert_checkpoint
from .export import Exported, export_student
from .inference import init_detector

__all__ = [
    'Exported', 'classifier_config', 'convert_checkpoint', 'export_student',
    'init_detector'
]
