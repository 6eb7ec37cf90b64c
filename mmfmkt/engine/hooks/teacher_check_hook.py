"""What a teacher is worth on the data that it is to teach."""

from typing import Optional

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmfmkt.registry import HOOKS
from mmfmkt.utils import ConfigError
from mmfmkt.utils.schema import Finite

from .progress import distiller_of


@HOOKS.register_module()
class TeacherCheckHook(Hook):
    """Validates the teacher before the first iteration, and says the result.

    On the validation data and with the metrics of the student, and in the
    teacher's own normalisation. A checkpoint of other classes, or a config
    of another normalisation, shows itself here instead of in a student that
    is no better than without.

    Args:
        least (float, optional): What the first metric has to be at least.

    Raises:
        ConfigError: In training, if it is less.
    """

    def __init__(self, least: Optional[Finite] = None) -> None:
        self.least = least

    @torch.no_grad()
    def before_train(self, runner: Runner) -> None:
        """Validate the teacher.

        Raises:
            ConfigError: If there is none, or nothing to validate it on.
        """
        teacher, loop = distiller_of(runner).teacher, runner.val_loop
        if teacher is None or loop is None:
            raise ConfigError(
                'TeacherCheckHook validates a teacher: it needs model.teacher '
                'and the validation of the config.'
            )
        for batch in loop.dataloader:
            loop.evaluator.process(
                data_samples=teacher.val_step(batch), data_batch=batch
            )
        metrics = loop.evaluator.evaluate(len(loop.dataloader.dataset))
        runner.logger.info(
            'The teacher: '
            + ', '.join(f'{k} {v:.4f}' for k, v in metrics.items())
        )
        name, value = next(iter(metrics.items()))
        if self.least is not None and not value >= self.least:
            raise ConfigError(
                f'model.teacher: its {name} is {value:.4f}, less than '
                f'{self.least}: does its config have the classes and the '
                'normalisation that its checkpoint was trained with?'
            )
