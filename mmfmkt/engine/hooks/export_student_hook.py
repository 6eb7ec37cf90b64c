"""Export of the student after training."""

import os.path as osp
from typing import Optional

from mmengine.dist import master_only
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import Runner

from mmfmkt.registry import HOOKS

from ..export import export_student


@HOOKS.register_module()
class ExportStudentHook(Hook):
    """Exports the student to ``<work_dir>/student/`` after training.

    The student is from the best checkpoint if CheckpointHook has
    ``save_best`` (by the first of several metrics), otherwise from the last
    one. Equivalent to ``mmfmkt export``. The hook runs after CheckpointHook
    and EMAHook, which write the checkpoint.

    Args:
        last (bool): Whether to export the last checkpoint, even if
            ``save_best`` is set.

    Examples:
        >>> default_hooks = dict(
        ...     checkpoint=dict(type='CheckpointHook', save_best='auto'),
        ...     export_student=dict(type='mmfmkt.ExportStudentHook'))
    """

    priority = 'LOWEST'

    def __init__(self, last: bool = False) -> None:
        self.last = last

    @master_only
    def after_train(self, runner: Runner) -> None:
        """Export the student.

        Args:
            runner (Runner): The runner of the training process.
        """
        best = None if self.last else best_checkpoint(runner)
        checkpoint = best or runner.message_hub.runtime_info.get('last_ckpt')
        if checkpoint is None or osp.isdir(checkpoint):
            runner.logger.warning(
                'The student was not exported: the last checkpoint must be a '
                f'file, got {checkpoint}.'
            )
            return
        exported = export_student(
            runner.cfg, checkpoint, osp.join(runner.work_dir, 'student')
        )
        best_or_last = 'best' if best else 'last'
        runner.logger.info(
            f'The student of the {best_or_last} checkpoint ({checkpoint}) '
            f'was exported to {exported.usage}'
        )


def best_checkpoint(runner: Runner) -> Optional[str]:
    """Return the best checkpoint of a run with ``save_best``.

    Args:
        runner (Runner): The runner of the training process.

    Returns:
        str, optional: Its path; None without ``save_best``, without a
        validation, or if the file does not exist.
    """
    runtime_info = runner.message_hub.runtime_info
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook) and hook.save_best is not None:
            key, metrics = 'best_ckpt', hook.key_indicators
            if len(metrics) > 1:
                key = f'{key}_{metrics[0]}'
            path = runtime_info.get(key)
            if path and hook.file_backend.exists(path):
                return path
            runner.logger.warning(
                f'save_best: there is no best checkpoint ({path}); the last '
                'checkpoint is exported.'
            )
    return None
