"""Python API: composition, export, checkpoint conversion and inference."""

from mmfmkt.engine.export import Exported, export_student

from .convert import classifier_config, convert_checkpoint
from .distill import Composed, compose_distillation
from .inference import init_detector

__all__ = [
    'Composed',
    'Exported',
    'classifier_config',
    'compose_distillation',
    'convert_checkpoint',
    'export_student',
    'init_detector',
]
