"""CrossKD: Cross-Head Knowledge Distillation for Object Detection
(arXiv 2306.11369)."""

from typing import Any, Callable, NamedTuple, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..bounds import NonNegative, Positive
from .base import BaseMetricLoss
from .functional import SAMPLE_DIMS

# Function from a feature map (B, C, H, W) of one level to logits (B, priors,
# classes) and to boxes (B, priors, 4) as corners.
TeacherHead = Callable[[Tensor], Tuple[Tensor, Tensor]]


class TeacherPredictions(NamedTuple):
    """Encoded target of CrossKD: channel statistics of the teacher's map and
    the predictions of the teacher's head on it.

    Attributes:
        mean (Tensor): Mean of each channel, ``(1, C, 1, 1)``.
        std (Tensor): Standard deviation of each channel, ``(1, C, 1, 1)``.
        scores (Tensor): Probabilities ``(B, priors, classes)``.
        boxes (Tensor): Corners ``(B, priors, 4)``.
        best_scores (Tensor): Largest score of each prior, ``(B, priors)``.
        map_target (Any): Encoded target of the loss `CrossKDLoss.features`;
            None without that loss.
    """

    mean: Tensor
    std: Tensor
    scores: Tensor
    boxes: Tensor
    best_scores: Tensor
    map_target: Any


class CrossKDLoss(BaseMetricLoss):
    """Distance between the teacher head's predictions on student and teacher
    maps (arXiv 2306.11369, section 3.3).

    The student's map is first aligned with the mean and standard deviation of
    the teacher's, channel by channel, as in the authors' code. Scores are
    compared by the quality focal loss ``|s(p) - s(q)|^beta BCE(p, s(q))``,
    where p and q are the logits on the student's and the teacher's map and s
    is the sigmoid. Boxes are compared by ``1 - GIoU``, weighted by the
    teacher's largest score of the prior. The authors divide both terms by the
    number of positive priors over all levels; here both terms of a level are
    divided by the sum, over the level's priors, of the teacher's largest
    scores, which needs no labels. A detection distiller sets
    ``teacher_head``.

    Args:
        beta (float): Exponent of the quality focal loss.
        score_weight (float): Weight of the loss of the class scores.
        box_weight (float): Weight of the loss of the boxes.
        features (BaseMetricLoss, optional): Additional loss between student
            and teacher maps, such as `PKDLoss`.
        eps (float): Term added to the student's standard deviation.

    Attributes:
        teacher_head (Callable, optional): From a map ``(B, C, H, W)`` to
            logits ``(B, priors, classes)`` and boxes ``(B, priors, 4)``.

    Examples:
        >>> def teacher_head(maps):
        ...     positions = maps.flatten(2).mT
        ...     return positions[..., :4], positions[..., 4:]
        >>> loss = CrossKDLoss()
        >>> loss.teacher_head = teacher_head
        >>> student, teacher = torch.randn(2, 2, 8, 5, 5).unbind()
        >>> loss(student, teacher).shape
        torch.Size([])
    """

    spaces = ('maps',)
    needs_teacher_head = True
    ignores_scale = True
    supports_step_dim = True

    def __init__(
        self,
        beta: NonNegative = 1.0,
        score_weight: NonNegative = 1.0,
        box_weight: NonNegative = 1.0,
        features: Optional[BaseMetricLoss] = None,
        eps: Positive = 1e-6,
    ) -> None:
        super().__init__()
        self.beta, self.eps = beta, eps
        self.score_weight, self.box_weight = score_weight, box_weight
        self.teacher_head: Optional[TeacherHead] = None
        # A loss of maps; the attribute has the name of the config key.
        self.features = features
        if features is not None:
            if 'maps' not in features.spaces or features.needs_teacher_head:
                raise ValueError(
                    'features must be a loss of feature maps, got '
                    f'{type(features).__name__}.'
                )
            self.supports_step_dim = features.supports_step_dim

    def _predict(self, maps: Tensor) -> Tuple[Tensor, Tensor]:
        """Return logits and boxes that the teacher's head predicts."""
        if self.teacher_head is None:
            raise ValueError(
                'CrossKDLoss.teacher_head is not set; it must be a function '
                'from maps (B, C, H, W) to logits and boxes.'
            )
        return self.teacher_head(maps)

    def encode_target(self, target: Tensor) -> TeacherPredictions:
        """Return channel statistics and predictions on the teacher's map."""
        std, mean = channel_std_mean(target)
        logits, boxes = self._predict(target)
        scores = logits.sigmoid()
        map_target = None
        if self.features is not None:
            map_target = self.features.encode_target(target)
        return TeacherPredictions(
            mean, std, scores, boxes, scores.amax(-1), map_target
        )

    def compute_loss(self, pred: Tensor, target: TeacherPredictions) -> Tensor:
        # Imported here: it takes seconds, and no other loss needs it.
        from torchvision.ops import generalized_box_iou_loss

        std, mean = channel_std_mean(pred)
        aligned = (pred - mean) / (std + self.eps) * target.std + target.mean
        # One call of the head on the maps of all steps.
        logits, boxes = (
            x.view(*pred.shape[:-3], *x.shape[1:])
            for x in self._predict(aligned.flatten(0, -4))
        )
        focal_weight = (logits.sigmoid() - target.scores).abs().pow(self.beta)
        cross_entropy = F.binary_cross_entropy_with_logits(
            logits, target.scores.expand_as(logits), reduction='none'
        )
        box_loss = generalized_box_iou_loss(boxes, target.boxes, eps=self.eps)
        total = self.score_weight * (focal_weight * cross_entropy).sum()
        total = total + self.box_weight * (target.best_scores * box_loss).sum()
        # std has shape (1, C, 1, 1), or (steps, 1, C, 1, 1).
        num_steps = std.numel() // std.shape[-3]
        loss = total / (num_steps * target.best_scores.sum().clamp_min(1.0))
        if self.features is not None:
            loss = loss + self.features.compute_loss(pred, target.map_target)
        return loss


def channel_std_mean(maps: Tensor) -> Tuple[Tensor, Tensor]:
    """Return standard deviation and mean of each channel of maps ``(..., B, C,
    H, W)``. The standard deviation of a single value is 0."""
    count = maps.shape[-4] * maps.shape[-2] * maps.shape[-1]
    return torch.std_mean(
        maps, SAMPLE_DIMS, correction=min(count - 1, 1), keepdim=True
    )
