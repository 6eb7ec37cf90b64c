"""A look at a flow as it is: how far it carries, and how near it comes."""

from dataclasses import dataclass, field
from typing import Dict, List

import torch
from torch import Tensor

from .base import Transfer
from .walk import Walk


@dataclass
class FlowLook:
    """What was seen along a walk; features stay on their device.

    Attributes:
        velocity (float): Root mean square of the velocities in units of the
            source's, mean over the steps.
        before (float): D(T(X_S), X_T): where there is no flow.
        after (float): D(T(mean_i X_hat_i), X_T): what is deployed.
        bound (float): mean_i D(T(X_hat_i), X_T), which Jensen's inequality
            puts above ``after`` for a convex D.
        each (list[float]): D(T(X_hat_i), X_T) of each step, from t = 1 on.
        estimates (list[Tensor]): X_hat_i, shape of the source.
    """

    velocity: float
    before: float
    after: float
    bound: float
    each: List[float] = field(default_factory=list)
    estimates: List[Tensor] = field(default_factory=list)

    @property
    def gap(self) -> float:
        """Jensen's gap, ``bound - after``."""
        return self.bound - self.after

    def scalars(self) -> Dict[str, float]:
        """Those of its numbers that change in the course of a training."""
        return dict(
            velocity=self.velocity,
            distance_before=self.before,
            distance_after=self.after,
            jensen_gap=self.gap,
        )


@torch.no_grad()
def look(
    transfer: Transfer, source: Tensor, target: Tensor, num_steps: int
) -> FlowLook:
    """Walk once more, and measure on the way; nothing is changed.

    Args:
        transfer (Transfer): With a metric; of feature maps or vectors.
        source (Tensor): ``X_S``, ``(B, C_s, H, W)``.
        target (Tensor): ``X_T``, ``(B, C_t, H, W)``.
        num_steps (int): How many steps.

    Examples:
        >>> from mmfmkt.models.flows.inspection import look
        >>> transfer = FMKT(
        ...     VelocityField(ConvEncoder(8), RectifiedFlow()), PKDLoss()
        ... )
        >>> student, teacher = torch.randn(2, 2, 8, 5, 5).unbind()
        >>> seen = look(transfer, student, teacher, num_steps=4)
        >>> len(seen.each), seen.velocity
        (4, 0.0)
    """
    source = source.detach()
    goal = transfer.metric.prepare(target, None, source.dtype)

    def distance(feature: Tensor) -> float:
        output = transfer.transform(feature, target)
        return float(transfer.metric.measure(output, goal))

    before = distance(source)
    if transfer.field is None:
        return FlowLook(0.0, before, before, before)
    velocities, estimates = [], []
    for step in Walk(transfer.field, source, num_steps):
        velocities.append(float(step.velocity.square().mean()))
        estimates.append(step.estimate)
    each = [distance(x) for x in estimates]
    scale = float(source.float().square().mean())
    mean = sum(x**0.5 for x in velocities) / num_steps
    return FlowLook(
        velocity=mean / max(scale, 1e-12) ** 0.5,
        before=before,
        after=distance(sum(estimates) / num_steps),
        bound=sum(each) / num_steps,
        each=each,
        estimates=estimates,
    )
