"""Validation of the teacher before training."""

from typing import Optional

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmfmkt.evaluation import scalar_metrics
from mmfmkt.models.deprecation import renamed_argument
from mmfmkt.registry import HOOKS
from mmfmkt.utils import ConfigError
from mmfmkt.utils.schema import Finite

from .progress import get_distiller


@HOOKS.register_module()
class TeacherCheckHook(Hook):
    """Validates the teacher before the first iteration and logs its metrics.

    It uses the student's validation data and evaluator, and the teacher's
    normalization. A low metric indicates a checkpoint with other classes or
    a config with another normalization.

    Args:
        min_metric (float, optional): Minimum of the evaluator's first scalar
            metric, such as ``coco/bbox_mAP``; training ends with an error if
            the teacher's value is lower.
        least (float, optional): Former name of ``min_metric``.

    Raises:
        ConfigError: Before training, if the metric is below ``min_metric``.
    """

    priority = 'NORMAL'

    def __init__(
        self,
        min_metric: Optional[Finite] = None,
        least: Optional[Finite] = None,
    ) -> None:
        self.min_metric = renamed_argument(
            'least', least, 'min_metric', min_metric
        )

    @torch.no_grad()
    def before_train(self, runner: Runner) -> None:
        """Validate the teacher.

        Raises:
            ConfigError: If there is no teacher, no validation data, or if
                the teacher is a classifier and the student a detector.
        """
        distiller, val_loop = get_distiller(runner), runner.val_loop
        teacher = distiller.teacher
        if teacher is None or val_loop is None:
            raise ConfigError(
                'TeacherCheckHook needs model.teacher and val_dataloader, '
                'val_evaluator and val_cfg.'
            )
        if distiller.teacher_holder.is_backbone:
            raise ConfigError(
                'TeacherCheckHook validates a teacher of the task of the '
                'student, but model.teacher is a classifier: remove the hook '
                'or --check-teacher.'
            )
        dataset = val_loop.dataloader.dataset
        adapter = distiller.teacher_holder.raw_input_adapter(dataset)
        for batch in val_loop.dataloader:
            val_loop.evaluator.process(
                data_samples=teacher.val_step(adapter.adapt_batch(batch)),
                data_batch=batch,
            )
        metrics = val_loop.evaluator.evaluate(len(dataset))
        scalars = scalar_metrics(metrics)
        text = ', '.join(f'{k} {x:.4f}' for k, x in scalars.items())
        runner.logger.info(f'Teacher metrics: {text}')
        runner.visualizer.add_scalars(
            {f'teacher/{k}': x for k, x in scalars.items()}, step=0
        )
        if self.min_metric is None:
            return
        if not scalars:
            raise ConfigError(
                'TeacherCheckHook.min_metric needs a scalar metric, but '
                f'val_evaluator returns {", ".join(metrics) or "no metric"}.'
            )
        name, value = next(iter(scalars.items()))
        if not value >= self.min_metric:
            raise ConfigError(
                f'model.teacher: {name} must be at least {self.min_metric}, '
                f'got {value:.4f}. Check that its config has the classes '
                'and the normalization of its checkpoint.'
            )
