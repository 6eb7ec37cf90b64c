"""Schedule of the weight of the distillation losses."""

import math
from typing import Optional

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmfmkt.registry import HOOKS
from mmfmkt.utils import ConfigError
from mmfmkt.utils.schema import NonNegative

from .progress import get_distiller, get_progress


@HOOKS.register_module()
class TransferWeightHook(Hook):
    """Schedules a factor of the distillation losses.

    The factor is 0 before ``begin``, increases linearly to 1 during
    ``warmup``, decreases linearly to 0 during ``decay`` before ``end``, and
    is 0 from ``end`` on. While it is 0, the teacher does not run. The factor
    depends only on the progress of the run, so resuming is exact.

    Args:
        begin (float): Epoch or iteration at which distillation starts.
        end (float, optional): Epoch or iteration at which distillation ends;
            None: never.
        warmup (float): Epochs or iterations of the increase from 0 to 1 after
            ``begin``.
        decay (float): Epochs or iterations of the decrease from 1 to 0 before
            ``end``.
        by_epoch (bool): Whether the unit is epochs, possibly fractional, or
            iterations.

    Raises:
        ConfigError: If ``warmup`` and ``decay`` do not fit between ``begin``
            and ``end``.
    """

    priority = 'NORMAL'

    def __init__(
        self,
        begin: NonNegative = 0,
        end: Optional[NonNegative] = None,
        warmup: NonNegative = 0,
        decay: NonNegative = 0,
        by_epoch: bool = True,
    ) -> None:
        if end is None and decay:
            raise ConfigError('TransferWeightHook: decay needs end.')
        if end is not None and end < begin + warmup + decay:
            raise ConfigError(
                'TransferWeightHook: end must be at least begin + warmup + '
                f'decay = {begin + warmup + decay}, got {end}.'
            )
        self.begin, self.end = begin, math.inf if end is None else end
        self.warmup, self.decay = warmup, decay
        self.by_epoch = by_epoch

    def factor(self, progress: float) -> float:
        """Return the factor in [0, 1] at an epoch or iteration."""
        if not self.begin <= progress < self.end:
            return 0.0
        rise = (progress - self.begin) / self.warmup if self.warmup else 1.0
        fall = (self.end - progress) / self.decay if self.decay else 1.0
        return min(rise, fall, 1.0)

    def before_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Set ``transfer_weight`` of the distiller."""
        get_distiller(runner).transfer_weight = self.factor(
            get_progress(runner, self.by_epoch)
        )
