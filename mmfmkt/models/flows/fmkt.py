"""FM-KT: the student's head reads what the flow makes of its feature
(arXiv 2402.02012, Alg. 1)."""

from typing import List, Optional, Tuple

import torch
from torch import Tensor

from .base import TeacherFlowTransfer
from .steps import Steps
from .transforms import Head, Losses, mean_of
from .walk import Walk


class FMKT(TeacherFlowTransfer):
    """``1/N sum_i D(T(X_hat_i), X_T)``; ``mean_i X_hat_i`` is deployed.

    Arguments as `TeacherFlowTransfer`.

    Examples:
        >>> transfer = FMKT(
        ...     VelocityField(ConvEncoder(8), RectifiedFlow()), PKDLoss()
        ... )
        >>> student, teacher = torch.randn(2, 2, 8, 5, 5).unbind()
        >>> losses, feature = transfer(student, teacher, num_steps=4)
        >>> list(losses), feature.shape
        (['loss_flow'], torch.Size([2, 8, 5, 5]))
        >>> transfer.transport(student, num_steps=1).shape
        torch.Size([2, 8, 5, 5])
    """

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
        led = target if order is None else target[order]
        goal = self._goal(source, target, labels, order)
        read: List[Tuple[Tensor, Losses]] = []

        def visit(steps: Steps) -> Losses:
            if head is None:
                outputs = self._transformed(steps, target)
            else:
                now = [head(x) for x in steps.estimate]
                read.extend(now)
                outputs = torch.stack([x for x, _ in now])
            if goal is None:
                return {}
            return self._compared(steps, outputs, goal, led)

        # A student's own head is run once alone: it may count its calls.
        sections = self.with_cp and head is None
        walk = self._walk(
            source, led, num_steps, self.with_cp and not sections
        )
        losses, mean = walk.gather(visit, head is None, sections)
        task: Losses = {}
        if head is None:
            output = mean.to(source.dtype)
        else:
            output, task = mean_of(read)
        if target is None:
            return dict(loss_flow=self._idle_loss(source)), task, output
        losses['loss_flow'] = self.loss_weight * losses['loss_flow']
        if diagnose:
            losses['metric_of_mean'] = self._of_mean(
                output if head else self.transform(mean, target), goal
            )
        if self.direct_weight:
            if head is None:
                own = self.transform(source, target)
            else:
                own, _ = head(source)
            losses['loss_direct'] = self._direct(own, target, labels)
        return losses, task, output

    def _walk(
        self,
        source: Tensor,
        target: Optional[Tensor],
        num_steps: int,
        with_cp: bool,
    ) -> Walk:
        """The steps of training; ``target`` is what they are led to."""
        return Walk(self.field, source, num_steps, with_cp=with_cp)
