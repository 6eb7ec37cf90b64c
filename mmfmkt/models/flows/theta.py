"""FM-KT^Theta: the flow teaches and stays behind (section 3)."""

from typing import Any, Callable, Dict, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import Transfer
from .transforms import Head, Losses, MapTransform
from .walk import Step, Walk


class FMKTTheta(Transfer):
    """``1/N sum_i D(T(X_hat_i), X_T) + D(T_s(X_S), sg(mean_i T(X_hat_i)))``.

    The flow is a training-only branch with a T of its own: the student's
    feature, through ``T_s``, follows the mean of its estimates, and the
    student's head reads the feature as it is. Where calls bring the
    student's own head along, that is ``T_s``, T gives logits, and the branch
    learns the labels too (``loss_branch``).

    Args:
        args: As `Transfer`.
        student_transform (nn.Module, optional): ``T_s``, by default without
            a map of channels.
        kwargs: As `Transfer`.

    Examples:
        >>> transfer = FMKTTheta(
        ...     VelocityField(ConvEncoder(8), RectifiedFlow()), PKDLoss()
        ... )
        >>> student, teacher = torch.randn(2, 2, 8, 5, 5).unbind()
        >>> losses, feature = transfer(student, teacher, num_steps=4)
        >>> list(losses), feature is student
        (['loss_flow', 'loss_student'], True)
    """

    deploys_flow = False
    transforms = ('student_transform', 'transform')

    def __init__(
        self,
        *args: Any,
        student_transform: Optional[nn.Module] = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.student_transform = student_transform
        if self.metric is not None and student_transform is None:
            self.student_transform = MapTransform()

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
        if target is None:
            own, task = head(source) if head else (source, {})
            return {'loss_flow': self._idle_loss(source), **task}, own
        if head is None:
            own, task = self.student_transform(source, target), {}
        else:
            own, task = head(source)
        losses, mean = self._walk_branch(
            source, target, num_steps, labels, head, order
        )
        with torch.no_grad():
            # Affine, so that of the mean it is the mean of the outputs.
            taught = self.transform(mean, target)
        losses['loss_student'] = self.loss_weight * self.metric(
            own, taught, labels
        )
        if diagnose:
            losses['metric_of_mean'] = self._of_mean(
                taught, self._goal(source, target, labels, order)
            )
        if self.direct_weight:
            losses['loss_direct'] = self._direct(own, target, labels)
        return {**losses, **task}, own if head else source

    def _walk_branch(
        self,
        source: Tensor,
        target: Tensor,
        num_steps: int,
        labels: Optional[Tensor],
        head: Optional[Head],
        order: Optional[Tensor],
    ) -> Tuple[Losses, Tensor]:
        """The branch's own losses, and the mean of its estimates."""
        led = target if order is None else target[order]
        goal = self._goal(source, target, labels, order)

        def visit(step: Step) -> Losses:
            output = self.transform(step.estimate, target)
            seen = self._compared(step, output, goal, led)
            if head is not None:
                seen['loss_branch'] = F.cross_entropy(output, labels)
            return seen

        walk = Walk(self.field, source, num_steps)
        sums, mean = walk.gather(visit, sections=self.with_cp)
        losses = {name: x / num_steps for name, x in sums.items()}
        losses['loss_flow'] = self.loss_weight * losses['loss_flow']
        return losses, mean

    def logits(
        self,
        source: Tensor,
        counts: Sequence[int],
        head: Callable[[Tensor], Tensor],
    ) -> Dict[int, Tensor]:
        """Return the plain student's logits, for each number of steps."""
        return dict.fromkeys(counts, head(source))
