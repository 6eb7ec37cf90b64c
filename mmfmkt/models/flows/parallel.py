"""Parallel training, the ablation (section 3 of the method)."""

from typing import Optional

from torch import Tensor

from .fmkt import FMKT
from .transforms import resize
from .walk import InterpolatedWalk, Walk


class ParallelFMKT(FMKT):
    """FM-KT on states that are drawn from the interpolant.

    The encoder sees ``Z_t = alpha_t X_S + sigma_t X_T`` in training, which
    leaks the target that it has to find, and its own states at inference.
    Arguments as `FMKT`; shapes must be equal.

    Examples:
        >>> transfer = ParallelFMKT(
        ...     VelocityField(ConvEncoder(8), RectifiedFlow()), PKDLoss()
        ... )
        >>> student, teacher = torch.randn(2, 2, 8, 5, 5).unbind()
        >>> list(transfer(student, teacher, num_steps=4)[0])
        ['loss_flow']
    """

    def _walk(
        self,
        source: Tensor,
        target: Optional[Tensor],
        num_steps: int,
        with_cp: bool,
    ) -> Walk:
        if target is None:
            return super()._walk(source, target, num_steps, with_cp)
        return InterpolatedWalk(
            self.field, source, num_steps, resize(target, source), with_cp
        )
