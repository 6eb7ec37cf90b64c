"""Hooks."""

from .export_student_hook import ExportStudentHook
from .flow_ema_hook import FlowEMAHook
from .step_count_warmup_hook import StepCountWarmupHook
from .transfer_weight_hook import TransferWeightHook

__all__ = [
    'ExportStudentHook',
    'FlowEMAHook',
    'StepCountWarmupHook',
    'TransferWeightHook',
]
