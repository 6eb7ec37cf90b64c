"""OFM-KT: no teacher, each step follows the mean of all (section 3)."""

from typing import List, Optional, Tuple

import torch
from torch import Tensor

from .base import FlowTransfer
from .transforms import Head, Losses, mean_of
from .walk import Walk


class OFMKT(FlowTransfer):
    """``1/N sum_i D(o_i, sg(mean_j o_j))`` of the outputs o_i = T(X_hat_i).

    On maps T is the identity. The losses of a head are what they are for the
    student alone. Arguments as `FlowTransfer`.

    Examples:
        >>> transfer = OFMKT(
        ...     VelocityField(ConvEncoder(8), RectifiedFlow()), MSELoss()
        ... )
        >>> losses, feature = transfer(torch.randn(2, 8, 5, 5), None, 4)
        >>> list(losses)
        ['loss_flow']
    """

    needs_teacher = False

    def _run(
        self,
        source: Tensor,
        target: Optional[Tensor],
        num_steps: int,
        labels: Optional[Tensor],
        head: Optional[Head],
        order: Optional[Tensor],
        diagnose: bool,
    ) -> Tuple[Losses, Losses, Tensor]:
        # All outputs are kept: what they follow is known after the last.
        walk = Walk(self.field, source, num_steps, with_cp=self.with_cp)
        outputs: List[Tensor] = []
        read: List[Tuple[Tensor, Losses]] = []
        for steps, _ in walk.batches(walk.start, walk.numbers):
            if head is None:
                outputs.append(self._transformed(steps, None))
            else:
                now = [head(x) for x in steps.estimate]
                read.extend(now)
                outputs.append(torch.stack([x for x, _ in now]))
        mean = torch.cat(outputs).mean(0)
        goal = self._goal(source, mean, labels)
        measured = [
            len(x) * self.metric.measure_steps(x, goal) for x in outputs
        ]
        losses = dict(loss_flow=self.loss_weight * sum(measured) / num_steps)
        task = mean_of(read)[1] if read else {}
        return losses, task, mean if head else mean.to(source.dtype)
