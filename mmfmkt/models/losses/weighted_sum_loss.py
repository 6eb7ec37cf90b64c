"""Weighted sum of distillation losses."""

from typing import Any, List, Optional, Sequence

from torch import Tensor, nn

from ..tensor_ops import sequential_sum
from .base import BaseMetricLoss


class WeightedSumLoss(BaseMetricLoss):
    """``sum_i weights_i D_i(p, q)`` of student output p and teacher output q.

    Args:
        losses (Sequence[BaseMetricLoss]): The losses D_i; in a config, their
            configs.
        weights (Sequence[float], optional): Weights of the losses; 1 by
            default.

    Raises:
        ValueError: If there are no losses, if there is not one weight for
            each loss, or if no kind of input is accepted by all losses.

    Examples:
        >>> loss = WeightedSumLoss([CosineLoss(), MSELoss()], [0.9, 0.1])
        >>> student, teacher = torch.randn(2, 2, 8, 5, 5).unbind()
        >>> loss(student, teacher).shape
        torch.Size([])
    """

    def __init__(
        self,
        losses: Sequence[BaseMetricLoss],
        weights: Optional[Sequence[float]] = None,
    ) -> None:
        super().__init__()
        # Typed as Any: the elements of a ModuleList have no methods in mypy.
        self.losses: Any = nn.ModuleList(losses)
        self.weights = [1.0] * len(losses) if weights is None else [*weights]
        if not losses or len(self.weights) != len(losses):
            raise ValueError(
                'WeightedSumLoss needs one weight for each loss, got '
                f'{len(self.weights)} weights and {len(losses)} losses.'
            )
        self.spaces = tuple(
            space
            for space in losses[0].spaces
            if all(space in loss.spaces for loss in losses)
        )
        if not self.spaces:
            raise ValueError(
                'WeightedSumLoss needs losses that share a kind of input, got '
                f'losses of {" and ".join(str(x.spaces) for x in losses)}.'
            )
        self.needs_labels = any(x.needs_labels for x in losses)
        self.needs_teacher_head = any(x.needs_teacher_head for x in losses)
        self.ignores_scale = all(x.ignores_scale for x in losses)
        self.supports_step_dim = all(x.supports_step_dim for x in losses)

    def encode_target(
        self, target: Tensor, labels: Optional[Tensor] = None
    ) -> List[Any]:
        return [
            loss.encode_target(
                target, **(dict(labels=labels) if loss.needs_labels else {})
            )
            for loss in self.losses
        ]

    def compute_loss(self, pred: Tensor, target: List[Any]) -> Tensor:
        terms = [
            weight * loss._loss_in_float32(pred, encoded)
            for weight, loss, encoded in zip(self.weights, self.losses, target)
        ]
        return sequential_sum(terms)
