"""Log processors."""

from .distillation_log_processor import DistillationLogProcessor

__all__ = ['DistillationLogProcessor']
