"""Validation of the teacher before training."""

from numbers import Real
from typing import Optional

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from mmfmkt.registry import HOOKS
from mmfmkt.utils import ConfigError
from mmfmkt.utils.schema import Finite

from .progress import get_distiller


@HOOKS.register_module()
class TeacherCheckHook(Hook):
    """Validates the teacher before the first iteration, and logs its metrics.

    It uses the validation data and metrics of the student and the teacher's
    own normalization, and so detects a checkpoint of other classes or a
    config of another normalization.

    Args:
        least (float, optional): Lower bound of the first scalar metric.

    Raises:
        ConfigError: In training, if the metric is lower.
    """

    priority = 'NORMAL'

    def __init__(self, least: Optional[Finite] = None) -> None:
        self.least = least

    @torch.no_grad()
    def before_train(self, runner: Runner) -> None:
        """Validate the teacher.

        Raises:
            ConfigError: If there is none, or nothing to validate it on.
        """
        distiller, loop = get_distiller(runner), runner.val_loop
        teacher = distiller.teacher
        if teacher is None or loop is None:
            raise ConfigError(
                'TeacherCheckHook validates a teacher: it needs model.teacher '
                'and the validation of the config.'
            )
        dataset = loop.dataloader.dataset
        view = distiller.teacher_holder.raw_input_adapter(dataset)
        for batch in loop.dataloader:
            loop.evaluator.process(
                data_samples=teacher.val_step(view.adapt_batch(batch)),
                data_batch=batch,
            )
        metrics = loop.evaluator.evaluate(len(dataset))
        # Metrics of each class are lists, a confusion matrix is a tensor.
        numbers = {
            k: float(v)
            for k, v in metrics.items()
            if isinstance(v, Real) or (isinstance(v, Tensor) and not v.ndim)
        }
        runner.logger.info(
            'The teacher: '
            + ', '.join(
                f'{k} {numbers[k]:.4f}' if k in numbers else f'{k} {v}'
                for k, v in metrics.items()
            )
        )
        scalars = {f'teacher/{k}': x for k, x in numbers.items()}
        runner.visualizer.add_scalars(scalars, step=0)
        if self.least is None:
            return
        if not numbers:
            raise ConfigError(
                'TeacherCheckHook.least needs a metric that is a number, but '
                f'val_evaluator gives {", ".join(metrics) or "none"}.'
            )
        name, value = next(iter(numbers.items()))
        if not value >= self.least:
            raise ConfigError(
                f'model.teacher: its {name} is {value:.4f}, less than '
                f'{self.least}: does its config have the classes and the '
                'normalization that its checkpoint was trained with?'
            )
