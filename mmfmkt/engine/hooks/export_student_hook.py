"""Export of the student after training."""

import os.path as osp

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmfmkt.registry import HOOKS

from ..export import export_student


@HOOKS.register_module()
class ExportStudentHook(Hook):
    """Exports the last checkpoint's student to ``<work_dir>/student/``.

    Equivalent to ``mmfmkt export``. It runs after CheckpointHook and EMAHook,
    which write the checkpoint.
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
                'The student was not exported: no checkpoint was saved.'
            )
            return
        exported = export_student(
            runner.cfg, checkpoint, osp.join(runner.work_dir, 'student')
        )
        runner.logger.info(f'The student was exported to {exported.usage}')
