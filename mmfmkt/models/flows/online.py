"""OFM-KT: no teacher, each step follows the mean of all (section 3)."""

from typing import Optional, Tuple

from torch import Tensor

from .base import Transfer
from .transforms import Head, Losses, read_each
from .walk import Steps, Walk


class OFMKT(Transfer):
    """``1/N sum_i D(o_i, sg(mean_j o_j))`` of the outputs o_i = T(X_hat_i).

    On maps T is the identity. The losses of a head are what they are for the
    student alone. Arguments as `Transfer`, but for ``direct_weight``
    and ``compare``, which want a teacher.

    Examples:
        >>> transfer = OFMKT(
        ...     VelocityField(ConvEncoder(8), RectifiedFlow()), MSELoss()
        ... )
        >>> losses, feature = transfer(torch.randn(2, 8, 5, 5), None, 4)
        >>> list(losses)
        ['loss_flow']
    """

    needs_teacher = False
    pairs = False

    def _check(self) -> None:
        if self.direct_weight or self.compare != 'targets':
            raise ValueError(
                'direct_weight and compare mean nothing to the variant '
                "'online', which has no teacher: leave them out."
            )
        super()._check()

    def forward(
        self,
        source: Tensor,
        target: Optional[Tensor],
        num_steps: int,
        labels: Optional[Tensor] = None,
        head: Optional[Head] = None,
        order: Optional[Tensor] = None,
        diagnose: bool = False,
    ) -> Tuple[Losses, Tensor]:
        # All outputs are kept: what they follow is known after the last.
        walk = Walk(self.field, source, num_steps, with_cp=self.with_cp)
        steps, losses = Steps(list(walk)), {}
        if head is None:
            outputs = self._transformed(steps, None)
        else:
            outputs, losses = read_each(head, steps.estimate)
        mean = outputs.mean(0)
        goal = self._goal(source, mean, labels)
        flow = self.metric.measure_steps(outputs, goal)
        losses['loss_flow'] = self.loss_weight * flow
        return losses, mean if head else mean.to(source.dtype)
