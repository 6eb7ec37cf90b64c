"""Exports the student when training ends."""

import os.path as osp

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmfmkt.registry import HOOKS

from ..export import export_student


@HOOKS.register_module()
class ExportStudentHook(Hook):
    """Writes ``<work_dir>/student/`` from the last checkpoint.

    Does what ``tools/export_student.py`` does. Runs after CheckpointHook and
    EMAHook, so that it finds the checkpoint that they leave.
    """

    priority = 'LOWEST'

    @master_only
    def after_train(self, runner: Runner) -> None:
        """Export the student.

        Args:
            runner (Runner): The runner of the training process.
        """
        checkpoint = runner.message_hub.runtime_info.get('last_ckpt')
        if checkpoint is None:
            runner.logger.warning(
                'No checkpoint was saved, so there is no student to export.'
            )
            return
        exported = export_student(
            runner.cfg, checkpoint, osp.join(runner.work_dir, 'student')
        )
        runner.logger.info(f'The student was exported to {exported.usage}')
