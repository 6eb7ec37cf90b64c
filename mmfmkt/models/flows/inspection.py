"""Statistics of a flow: RMS of the velocity, and distillation losses."""

from dataclasses import dataclass, field
from typing import Dict, List

import torch
from torch import Tensor

from ..tensor_ops import sequential_sum
from .base import Transfer
from .sampler import EulerSampler


@dataclass
class FlowStats:
    """Statistics of one sampling run.

    D is the distillation loss, T the transform to the teacher's space.

    Attributes:
        velocity (float): Root mean square (RMS) of the velocity, averaged
            over the steps, relative to the RMS of the source.
        before (float): D(T(X_S), X_T), of the student's feature.
        after (float): D(T(mean_i X_hat_i), X_T), of the deployed feature.
        bound (float): mean_i D(T(X_hat_i), X_T), an upper bound of ``after``
            for a convex D (Jensen's inequality).
        per_step (list[float]): D(T(X_hat_i), X_T) of each step, in order from
            t = 1 to t = 0.
        estimates (list[Tensor]): X_hat_i, shape and device of the source.
    """

    velocity: float
    before: float
    after: float
    bound: float
    per_step: List[float] = field(default_factory=list)
    estimates: List[Tensor] = field(default_factory=list)

    @property
    def gap(self) -> float:
        """Jensen gap, ``bound - after``."""
        return self.bound - self.after

    def scalars(self) -> Dict[str, float]:
        """Return the logged values by log key."""
        return dict(
            velocity=self.velocity,
            distance_before=self.before,
            distance_after=self.after,
            jensen_gap=self.gap,
        )


@torch.no_grad()
def measure_flow(
    transfer: Transfer, source: Tensor, target: Tensor, num_steps: int
) -> FlowStats:
    """Sample a flow and compute its statistics.

    Args:
        transfer (Transfer): A transfer between feature maps, whose T is its
            module ``transform``, with a ``distillation_loss``. For
            classifiers, T is the student's head, which is not supported.
        source (Tensor): ``X_S``, ``(B, C_s, H, W)``.
        target (Tensor): ``X_T``, ``(B, C_t, H, W)``.
        num_steps (int): Number of Euler steps.

    Examples:
        >>> from mmfmkt.models.flows.inspection import measure_flow
        >>> transfer = FMKT(
        ...     VelocityField(ConvEncoder(8), RectifiedFlow()), PKDLoss()
        ... )
        >>> student, teacher = torch.randn(2, 2, 8, 5, 5).unbind()
        >>> stats = measure_flow(transfer, student, teacher, num_steps=4)
        >>> # The last layer of an encoder starts at zero (`zero_init`).
        >>> len(stats.per_step), stats.velocity
        (4, 0.0)
    """
    source, metric = source.detach(), transfer.distillation_loss
    prepared = metric.prepare_target(target, None, source.dtype)

    def distance(feature: Tensor) -> float:
        output = transfer.transform(feature, target)
        return float(metric.loss_from_prepared(output, prepared))

    before = distance(source)
    if transfer.field is None:  # variant `direct`: no flow
        return FlowStats(0.0, before, before, before)
    squares, estimates = [], []
    for step in EulerSampler(transfer.field, source, num_steps):
        squares.append(float(step.velocity.square().mean()))
        estimates.append(step.estimate)
    per_step = [distance(x) for x in estimates]
    scale = float(source.float().square().mean())
    velocity = sum(x**0.5 for x in squares) / num_steps
    return FlowStats(
        velocity=velocity / max(scale, 1e-12) ** 0.5,
        before=before,
        after=distance(sequential_sum(estimates) / num_steps),
        bound=sum(per_step) / num_steps,
        per_step=per_step,
        estimates=estimates,
    )
