"""Exact resume: an interrupted run ends with an uninterrupted one's weights.

``robustness.exact_resume`` switches all of it: loops that continue within an
epoch, checkpoints with the random states of all processes and their workers,
and a checkpoint on SIGTERM or SIGINT.
"""

from .atomic_checkpoint_hook import AtomicCheckpointHook
from .interrupt_hook import InterruptHook
from .latest_checkpoint import latest_checkpoint, resume_from_latest
from .resumable_loops import ResumableEpochLoop, ResumableIterLoop

__all__ = [
    'AtomicCheckpointHook',
    'InterruptHook',
    'ResumableEpochLoop',
    'ResumableIterLoop',
    'latest_checkpoint',
    'resume_from_latest',
]
