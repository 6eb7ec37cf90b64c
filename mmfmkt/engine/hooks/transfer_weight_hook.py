"""Schedule of the transfer losses' weight."""

from typing import Optional

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmfmkt.registry import HOOKS
from mmfmkt.utils import ConfigError
from mmfmkt.utils.schema import NotNegative

from .progress import get_distiller, get_progress


@HOOKS.register_module()
class TransferWeightHook(Hook):
    """Sets the factor of the transfer's losses before each iteration.

    0 before ``begin``, rising to 1 over ``warmup``, falling to 0 over
    ``decay`` before ``end``, and 0 from there on; at 0 the teacher is not
    run. The factor is a function of the run's progress alone, so a resumed
    run goes on as the uninterrupted one would have.

    Args:
        begin (float): Epoch (or iteration) at which the transfer starts.
        end (float, optional): Epoch (or iteration) at which it stops; None:
            never.
        warmup (float): How long the factor rises after ``begin``.
        decay (float): How long it falls before ``end``.
        by_epoch (bool): Whether these count epochs, of which there may be
            fractions, or iterations.

    Raises:
        ConfigError: If the parts do not fit between ``begin`` and ``end``.
    """

    priority = 'NORMAL'

    def __init__(
        self,
        begin: NotNegative = 0,
        end: Optional[NotNegative] = None,
        warmup: NotNegative = 0,
        decay: NotNegative = 0,
        by_epoch: bool = True,
    ) -> None:
        if end is None and decay:
            raise ConfigError('TransferWeightHook needs an end to decay to.')
        if end is not None and end < begin + warmup + decay:
            raise ConfigError(
                f'TransferWeightHook: between begin {begin} and end {end} '
                f'there is no room for warmup {warmup} and decay {decay}.'
            )
        self.begin, self.end = begin, end
        self.warmup, self.decay = warmup, decay
        self.by_epoch = by_epoch

    def factor(self, progress: float) -> float:
        """Return the factor in [0, 1] at an epoch or iteration."""
        if progress < self.begin:
            return 0.0
        if self.end is not None and progress >= self.end:
            return 0.0
        if progress < self.begin + self.warmup:
            return (progress - self.begin) / self.warmup
        if self.decay and progress > self.end - self.decay:
            return (self.end - progress) / self.decay
        return 1.0

    def before_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Set ``transfer_weight`` of the distiller."""
        get_distiller(runner).transfer_weight = self.factor(
            get_progress(runner, self.by_epoch)
        )
