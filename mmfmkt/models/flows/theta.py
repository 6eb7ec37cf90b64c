"""FM-KT^Theta: the flow teaches and stays behind (section 3)."""

from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..losses.base import BaseMetricLoss
from .base import TeacherFlowTransfer, Transfer
from .steps import Steps
from .transforms import Head, Losses, MapTransform
from .velocity import VelocityField
from .walk import Walk


class FMKTTheta(TeacherFlowTransfer):
    """``1/N sum_i D(T(X_hat_i), X_T) + D(T_s(X_S), sg(mean_i T(X_hat_i)))``.

    The flow is a training-only branch with a T of its own: the student's
    feature, through ``T_s``, follows the mean of its estimates, and the
    student's head reads the feature as it is. Where calls bring the
    student's own head along, that is ``T_s``, T gives logits, and the branch
    learns the labels too (``loss_branch``).

    As published every term weighs 1. A direct term (``direct_weight``) leads
    the student's feature to the teacher while the ensemble still lags
    behind, as in the leader of OKDDip (arXiv 1912.00350); without the
    ensemble's term the flow is an auxiliary branch, whose gradient in the
    shared feature is all that it gives.

    Args:
        field, metric, transform, loss_weight, direct_weight, compare,
            with_cp: As `TeacherFlowTransfer`.
        student_transform (nn.Module, optional): ``T_s``, by default without
            a map of channels.
        ensemble_weight (float): Weight, in units of ``loss_weight``, of what
            leads the student's feature to the ensemble.

    Raises:
        ValueError: As `TeacherFlowTransfer`, and if no term leads the
            student's feature.

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
    logits = Transfer.logits

    def __init__(
        self,
        field: VelocityField,
        metric: Optional[BaseMetricLoss] = None,
        transform: Optional[nn.Module] = None,
        loss_weight: float = 1.0,
        direct_weight: float = 0.0,
        compare: str = 'targets',
        with_cp: bool = False,
        student_transform: Optional[nn.Module] = None,
        ensemble_weight: float = 1.0,
    ) -> None:
        super().__init__(
            field,
            metric,
            transform,
            loss_weight,
            direct_weight,
            compare,
            with_cp,
        )
        self.ensemble_weight = ensemble_weight
        if not ensemble_weight and not direct_weight:
            raise ValueError(
                'ensemble_weight and direct_weight are both 0, so that '
                "nothing leads the student's own feature: set one of them."
            )
        if metric is not None and student_transform is None:
            student_transform = MapTransform()
        self.student_transform = student_transform

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
        output, task = head(source) if head else (source, {})
        if target is None:
            return dict(loss_flow=self._idle_loss(source)), task, output
        own = output if head else self.student_transform(source, target)
        losses, mean = self._walk_branch(
            source, target, num_steps, labels, head, order
        )
        with torch.no_grad():
            # Affine, so that of the mean it is the mean of the outputs.
            taught = self.transform(mean, target)
        if self.ensemble_weight:
            weight = self.loss_weight * self.ensemble_weight
            losses['loss_student'] = weight * self.metric(own, taught, labels)
        if diagnose:
            losses['metric_of_mean'] = self._of_mean(
                taught, self._goal(source, target, labels, order)
            )
        if self.direct_weight:
            losses['loss_direct'] = self._direct(own, target, labels)
        return losses, task, output

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

        def visit(steps: Steps) -> Losses:
            outputs = self._transformed(steps, target)
            seen = self._compared(steps, outputs, goal, led)
            if head is not None:
                # Labels (B, ) or probabilities (B, classes), of all steps.
                all_labels = labels.expand(len(steps), *labels.shape)
                seen['loss_branch'] = F.cross_entropy(
                    outputs.flatten(0, 1), all_labels.flatten(0, 1)
                )
            return seen

        walk = Walk(self.field, source, num_steps)
        losses, mean = walk.gather(visit, sections=self.with_cp)
        losses['loss_flow'] = self.loss_weight * losses['loss_flow']
        return losses, mean
