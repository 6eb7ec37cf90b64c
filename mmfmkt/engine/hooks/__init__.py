"""Hooks."""

from .export_student_hook import ExportStudentHook
from .flow_ema_hook import FlowEMAHook
from .flow_monitor_hook import FlowMonitorHook
from .nan_guard_hook import FiniteHook, NanGuardHook
from .step_count_warmup_hook import StepCountWarmupHook
from .teacher_cache_hook import TeacherCacheHook
from .teacher_check_hook import TeacherCheckHook
from .transfer_weight_hook import TransferWeightHook

__all__ = [
    'ExportStudentHook',
    'FiniteHook',
    'FlowEMAHook',
    'FlowMonitorHook',
    'NanGuardHook',
    'StepCountWarmupHook',
    'TeacherCacheHook',
    'TeacherCheckHook',
    'TransferWeightHook',
]
