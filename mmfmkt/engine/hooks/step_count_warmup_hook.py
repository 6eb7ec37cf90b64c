"""Warm-up of the number of sampling steps N."""

import math

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmfmkt.registry import HOOKS
from mmfmkt.utils.schema import Positive

from .progress import get_distiller, get_progress


@HOOKS.register_module()
class StepCountWarmupHook(Hook):
    """Increases the upper limit of N linearly from 1 during the warm-up.

    If ``num_steps`` has several values, N is drawn from those up to the
    limit; a fixed N is clipped to it. The limit depends only on the progress
    of the run, so resuming is exact.

    Args:
        warmup (float): Number of epochs or iterations until the limit
            is the largest value of ``flow.num_steps``.
        by_epoch (bool): Whether the unit of ``warmup`` is epochs or
            iterations.
    """

    priority = 'NORMAL'

    def __init__(self, warmup: Positive, by_epoch: bool = True) -> None:
        self.warmup, self.by_epoch = warmup, by_epoch

    def before_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Set ``limit`` of each `StepCount`."""
        warmup_progress = get_progress(runner, self.by_epoch) / self.warmup
        for flow in get_distiller(runner).flows.values():
            step_count = flow.step_count
            maximum = max(step_count.choices)
            step_count.limit = min(
                maximum, 1 + math.floor(warmup_progress * maximum)
            )
