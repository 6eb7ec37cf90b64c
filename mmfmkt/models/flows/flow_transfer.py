"""Base class of the variants with a flow."""

from typing import (
    Callable,
    Dict,
    List,
    Optional,
    Sequence,
    Tuple,
)

import torch
from torch import Tensor, nn

from ..deprecation import renamed_method
from ..losses.base import BaseMetricLoss
from ..tensor_ops import sequential_sum
from .base import Transfer
from .sampler import EulerSampler
from .steps import StepBatch
from .transforms import Head, Losses
from .velocity import VelocityField


class FlowTransfer(Transfer):
    """Base class of the variants with a flow, which is deployed by default.

    Args:
        field (VelocityField): The flow.
        metric, transform, loss_weight: As `Transfer`. In ``forward_head``,
            the student's head is T.
        with_cp (bool): Whether to checkpoint the steps: backward recomputes
            them, which saves memory.
    """

    deploys_flow = True
    field: VelocityField

    def __init__(
        self,
        field: VelocityField,
        metric: Optional[BaseMetricLoss] = None,
        transform: Optional[nn.Module] = None,
        loss_weight: float = 1.0,
        with_cp: bool = False,
    ) -> None:
        super().__init__(metric, transform, loss_weight)
        self.field, self.with_cp = field, with_cp

    def sample(self, source: Tensor, num_steps: int) -> Tensor:
        """Return the feature that is deployed instead of the source.

        Args:
            source (Tensor): ``X_S``, ``(B, C_s, H, W)`` or ``(B, C_s)``.
            num_steps (int): K, any positive integer.

        Returns:
            Tensor: Mean of the estimates, shape and type of ``source``.
        """
        sampler = EulerSampler(self.field, source, num_steps)
        return sampler.mean().to(source.dtype)

    transport = renamed_method('transport', 'sample')

    def logits(
        self,
        source: Tensor,
        step_counts: Sequence[int],
        head: Callable[[Tensor], Tensor],
    ) -> Dict[int, Tensor]:
        """Return the mean logits of the steps, ``mean_i T(X_hat_i)``, by K.

        Args:
            source (Tensor): ``X_S``, ``(B, C_s, H, W)`` or ``(B, C_s)``.
            step_counts (Sequence[int]): One or more values of K.
            head (Callable): The student's head, which returns logits.

        Returns:
            dict: Logits ``(B, classes)`` by K.
        """
        means: Dict[int, Tensor] = {}
        for num_steps in dict.fromkeys(step_counts):
            steps = EulerSampler(self.field, source, num_steps)
            logits = [head(step.estimate) for step in steps]
            means[num_steps] = sequential_sum(logits) / num_steps
        return means

    def _step_outputs(
        self,
        steps: StepBatch,
        target: Optional[Tensor],
        head: Optional[Head],
        predictions: List[Tuple[Tensor, Losses]],
    ) -> Tensor:
        """Return T of the estimates of all steps.

        Args:
            steps (StepBatch): The steps.
            target (Tensor, optional): ``X_T``.
            head (Callable, optional): The student's head as T.
            predictions (list): List to which the outputs of ``head`` are
                appended, as pairs of logits and task losses.
        """
        if head is None:
            outputs = self.transform(steps.estimate.flatten(0, 1), target)
            return outputs.unflatten(0, (len(steps), -1))
        step_predictions = [head(x) for x in steps.estimate]
        predictions.extend(step_predictions)
        return torch.stack([logits for logits, _ in step_predictions])
