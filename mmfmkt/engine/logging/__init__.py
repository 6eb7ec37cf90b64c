"""What a training says of itself."""

from .distillation_log_processor import DistillationLogProcessor

__all__ = ['DistillationLogProcessor']
