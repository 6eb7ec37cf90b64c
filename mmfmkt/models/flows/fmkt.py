"""FM-KT: the student's head reads what the flow makes of its feature
(arXiv 2402.02012, Alg. 1)."""

from typing import Optional, Tuple

from torch import Tensor

from .base import Transfer
from .transforms import Head, Losses, read_each
from .walk import Steps, Walk


class FMKT(Transfer):
    """``1/N sum_i D(T(X_hat_i), X_T)``; ``mean_i X_hat_i`` is deployed.

    Arguments as `Transfer`.

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
        led = target if order is None else target[order]
        goal = self._goal(source, target, labels, order)

        def visit(steps: Steps) -> Losses:
            if head is None:
                outputs, seen = self._transformed(steps, target), {}
            else:
                outputs, seen = read_each(head, steps.estimate)
                seen['output'] = outputs.mean(0)
            if goal is not None:
                seen = {**seen, **self._compared(steps, outputs, goal, led)}
            return seen

        # A student's own head is run once alone: it may count its calls.
        sections = self.with_cp and head is None
        walk = self._walk(
            source, led, num_steps, self.with_cp and not sections
        )
        losses, mean = walk.gather(visit, head is None, sections)
        output = losses.pop('output') if head else mean.to(source.dtype)
        if target is None:
            return {'loss_flow': self._idle_loss(source), **losses}, output
        losses['loss_flow'] = self.loss_weight * losses['loss_flow']
        if diagnose:
            losses['metric_of_mean'] = self._of_mean(
                output if head else self.transform(mean, target), goal
            )
        if self.direct_weight:
            direct, _ = self._read(source, target, head)
            losses['loss_direct'] = self._direct(direct, target, labels)
        return losses, output

    def _walk(
        self,
        source: Tensor,
        target: Optional[Tensor],
        num_steps: int,
        with_cp: bool,
    ) -> Walk:
        """The steps of training; ``target`` is what they are led to."""
        return Walk(self.field, source, num_steps, with_cp=with_cp)
