"""Base class of the variants whose flow targets a teacher's feature."""

from typing import Optional

import torch
from torch import Tensor, nn

from ..losses.base import BaseMetricLoss, PreparedTarget
from ..tensor_ops import sequential_sum
from .base import TransferInputs
from .flow_transfer import FlowTransfer
from .steps import StepBatch
from .transforms import resize
from .velocity import VelocityField

COMPARE_MODES = ('targets', 'velocities')


class TeacherFlowTransfer(FlowTransfer):
    """Base class of the variants whose flow targets a teacher's feature.

    Args:
        field, metric, transform, loss_weight, with_cp: As `FlowTransfer`.
        direct_weight (float): Weight, in units of ``loss_weight``, of the
            additional term D(T(X_S), X_T), without the flow.
        compare (str): What the distillation loss compares. ``'targets'``:
            the estimates, D(T(X_hat), X_T); ``'velocities'``: the velocities,
            D(v, alpha' X_S + sigma' X_T), for features of equal channels;
            the teacher's map is resized if its size differs. alpha' and
            sigma' are derivatives of the noise schedule. X_S in the compared
            velocity is detached: gradients reach the student through v alone.
            They are 0 at the start of a flow that starts as the identity, if
            the schedule is straight.

    Raises:
        ValueError: If the settings contradict each other.
    """

    def __init__(
        self,
        field: VelocityField,
        metric: Optional[BaseMetricLoss] = None,
        transform: Optional[nn.Module] = None,
        loss_weight: float = 1.0,
        direct_weight: float = 0.0,
        compare: str = 'targets',
        with_cp: bool = False,
    ) -> None:
        super().__init__(field, metric, transform, loss_weight, with_cp)
        self.direct_weight, self.compare = direct_weight, compare
        if compare not in COMPARE_MODES:
            raise ValueError(
                f'compare must be one of {", ".join(COMPARE_MODES)}, got '
                f'{compare!r}.'
            )
        ignores_scale = metric is not None and any(
            getattr(term, 'ignores_scale', False) for term in metric.modules()
        )
        if compare == 'velocities' and ignores_scale and field.starts_at_zero:
            raise ValueError(
                f'metric {type(metric).__name__}, or a term of it, ignores '
                'scale and cannot compare velocities that start at zero; set '
                'encoder.zero_init to False.'
            )

    def _flow_target(
        self, target: Tensor, inputs: TransferInputs
    ) -> PreparedTarget:
        """Return the encoded target ``X_T`` of the flow.

        With pair decoupling (``dirac_ratio`` below 1), its samples are
        permuted by ``inputs.permutation``.
        """
        labels, permutation = inputs.labels, inputs.permutation
        if permutation is not None:
            # The label of a permuted pair is that of its teacher sample.
            target = target[permutation]
            labels = None if labels is None else labels[permutation]
        return self.distillation_loss.prepare_target(
            target, labels, inputs.source.dtype
        )

    def _flow_loss(
        self, steps: StepBatch, outputs: Tensor, target: PreparedTarget
    ) -> Tensor:
        """Return the mean over steps of ``D(T(X_hat), X_T)``, or of
        ``D(v, alpha' X_S + sigma' X_T)``, without ``loss_weight``.

        Args:
            steps (StepBatch): The steps.
            outputs (Tensor): T of their estimates.
            target (PreparedTarget): Result of ``_flow_target``.
        """
        metric = self.distillation_loss
        if self.compare == 'targets':
            return metric.mean_loss_over_steps(outputs, target)
        source, velocity = steps.source, self.field.schedule.velocity
        feature = resize(target.output, source).to(source)
        losses = [
            metric(pred, velocity(source, feature, step.t))
            for pred, step in zip(steps.velocity, steps.steps)
        ]
        return sequential_sum(losses) / len(steps)

    @torch.no_grad()
    def _metric_of_mean(
        self, output: Tensor, target: PreparedTarget
    ) -> Tensor:
        """Return ``loss_weight D(T(mean_i X_hat_i), X_T)``.

        Args:
            output (Tensor): T of the mean of the estimates.
            target (PreparedTarget): Result of ``_flow_target``.
        """
        loss = self.distillation_loss.loss_from_prepared(output, target)
        return self.loss_weight * loss

    def _direct_loss(
        self, output: Tensor, target: Tensor, labels: Optional[Tensor]
    ) -> Tensor:
        """Return ``loss_weight direct_weight D(T(X_S), X_T)``.

        Args:
            output (Tensor): T of the source.
            target (Tensor): ``X_T``.
            labels (Tensor, optional): As in ``forward``.
        """
        weight = self.loss_weight * self.direct_weight
        return weight * self.distillation_loss(output, target, labels)
