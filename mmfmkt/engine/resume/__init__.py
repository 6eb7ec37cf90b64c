"""Exact resume: a resumed run ends with the weights of an uninterrupted run.

``robustness.exact_resume`` enables loops that continue within an epoch,
checkpoints with the random states of all processes and dataloader workers,
and a checkpoint on SIGTERM and SIGINT.
"""

from .atomic_checkpoint_hook import AtomicCheckpointHook
from .interrupt_hook import InterruptHook
from .latest_checkpoint import (
    has_checkpoint,
    latest_checkpoint,
    resume_from_latest,
)
from .resumable_loops import ResumableEpochLoop, ResumableIterLoop

__all__ = [
    'AtomicCheckpointHook',
    'InterruptHook',
    'ResumableEpochLoop',
    'ResumableIterLoop',
    'has_checkpoint',
    'latest_checkpoint',
    'resume_from_latest',
]
