"""Parallel training, an ablation: the encoder's input contains the target."""

from typing import Optional

from torch import Tensor

from .fmkt import FMKT
from .sampler import EulerSampler, InterpolatedSampler
from .transforms import resize


class ParallelFMKT(FMKT):
    """FM-KT trained on interpolated states.

    In training the encoder's input is ``Z_t = alpha_t X_S + sigma_t X_T``,
    which leaks the target; at inference it is the state of the Euler sampler.
    Arguments as `FMKT`. The features of student and teacher must have equal
    channels.

    Examples:
        >>> transfer = ParallelFMKT(
        ...     VelocityField(ConvEncoder(8), RectifiedFlow()), PKDLoss()
        ... )
        >>> student, teacher = torch.randn(2, 2, 8, 5, 5).unbind()
        >>> list(transfer(student, teacher, num_steps=4)[0])
        ['loss_flow']
    """

    def _training_sampler(
        self,
        source: Tensor,
        target: Optional[Tensor],
        num_steps: int,
        with_cp: bool,
    ) -> EulerSampler:
        if target is None:
            return super()._training_sampler(
                source, target, num_steps, with_cp
            )
        return InterpolatedSampler(
            self.field, source, num_steps, resize(target, source), with_cp
        )
