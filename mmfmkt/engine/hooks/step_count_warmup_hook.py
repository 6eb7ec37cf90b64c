"""Warm-up of the number of sampling steps."""

import math

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmfmkt.registry import HOOKS
from mmfmkt.utils.schema import Positive

from .progress import get_distiller, get_progress


@HOOKS.register_module()
class StepCountWarmupHook(Hook):
    """Limits N: from 1 at the beginning to no limit after the warm-up.

    Drawn counts are drawn from those below the limit; a fixed N is the limit
    where it is larger. A function of the run's progress alone, so a resumed
    run goes on as the uninterrupted one would have.

    Args:
        warmup (float): Epochs (or iterations) until N has no limit.
        by_epoch (bool): Whether ``warmup`` counts epochs or iterations.
    """

    priority = 'NORMAL'

    def __init__(self, warmup: Positive, by_epoch: bool = True) -> None:
        self.warmup, self.by_epoch = warmup, by_epoch

    def before_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Set ``limit`` of each step count."""
        share = get_progress(runner, self.by_epoch) / self.warmup
        for flow in get_distiller(runner).flows.values():
            count = flow.step_count
            most = max(count.choices)
            count.limit = min(most, 1 + math.floor(share * most))
