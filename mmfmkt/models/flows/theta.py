"""FM-KT^Theta: the flow is a training-only branch (arXiv 2402.02012)."""

from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..losses.base import BaseMetricLoss, PreparedTarget
from .base import Transfer, TransferInputs, TransferOutputs
from .sampler import EulerSampler
from .steps import StepBatch
from .teacher_flow_transfer import TeacherFlowTransfer
from .transforms import Losses, MapTransform
from .velocity import VelocityField


class FMKTTheta(TeacherFlowTransfer):
    """``1/N sum_i D(T(X_hat_i), X_T) + D(T_s(X_S), sg(mean_i T(X_hat_i)))``.

    The flow is a training-only branch with a transform T. The ensemble is the
    mean of the branch's outputs T(X_hat_i); sg stops its gradient. The
    student's feature, transformed by ``T_s``, is distilled from the ensemble.
    The student's head receives the feature unchanged. In ``forward_head`` the
    student's head is ``T_s``, T returns logits, and the branch is also
    trained on the labels (``loss_branch``).

    In the paper every term has weight 1. The direct term
    (``direct_weight``), D(T_s(X_S), X_T), distills the student's feature from
    the teacher while the ensemble is not yet accurate, as for the leader of
    OKDDip (arXiv 1912.00350). Without the ensemble term the flow is an
    auxiliary branch, which affects the student only by its gradient with
    respect to the shared feature.

    Args:
        field, metric, transform, loss_weight, direct_weight, compare,
            with_cp: As `TeacherFlowTransfer`.
        student_transform (nn.Module, optional): ``T_s``, by default resizing
            alone.
        ensemble_weight (float): Weight, in units of ``loss_weight``, of the
            ensemble term.

    Raises:
        ValueError: As `TeacherFlowTransfer`, and if both ``direct_weight``
            and ``ensemble_weight`` are 0.

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
                'ensemble_weight and direct_weight are both 0: no term '
                "distills the student's feature; set one of them."
            )
        if student_transform is None:
            student_transform = MapTransform()
        self.student_transform = student_transform

    def _run(self, inputs: TransferInputs) -> TransferOutputs:
        source, target, head = inputs.source, inputs.target, inputs.head
        output, task = head(source) if head else (source, {})
        if target is None:
            return dict(loss_flow=self._zero_loss(source)), task, output
        student = output if head else self.student_transform(source, target)
        flow_target = self._flow_target(target, inputs)
        losses, mean = self._run_branch(target, flow_target, inputs)
        with torch.no_grad():
            # T is affine, so T of the mean is the mean of the outputs of T.
            ensemble = self.transform(mean, target)
        if self.ensemble_weight:
            weight = self.loss_weight * self.ensemble_weight
            losses['loss_student'] = weight * self.distillation_loss(
                student, ensemble, inputs.labels
            )
        if inputs.diagnose:
            losses['metric_of_mean'] = self._metric_of_mean(
                ensemble, flow_target
            )
        if self.direct_weight:
            losses['loss_direct'] = self._direct_loss(
                student, target, inputs.labels
            )
        return losses, task, output

    def _run_branch(
        self,
        target: Tensor,
        flow_target: PreparedTarget,
        inputs: TransferInputs,
    ) -> Tuple[Losses, Tensor]:
        """Return the branch's losses and the mean of its estimates."""
        labels = inputs.labels if inputs.head else None

        def step_losses(steps: StepBatch) -> Losses:
            outputs = self._step_outputs(steps, target, None, [])
            losses = dict(
                loss_flow=self._flow_loss(steps, outputs, flow_target)
            )
            if labels is not None:
                step_labels = labels.expand(len(steps), *labels.shape)
                losses['loss_branch'] = F.cross_entropy(
                    outputs.flatten(0, 1), step_labels.flatten(0, 1)
                )
            return losses

        sampler = EulerSampler(self.field, inputs.source, inputs.num_steps)
        losses, mean = sampler.accumulate(
            step_losses, checkpoint_segments=self.with_cp
        )
        losses['loss_flow'] = self.loss_weight * losses['loss_flow']
        return losses, mean
