"""CrossKD: Cross-Head Knowledge Distillation for Object Detection
(arXiv 2306.11369)."""

from typing import Any, Callable, NamedTuple, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..bounds import NotNegative, Positive
from .base import BaseMetricLoss

PLACES = (-4, -2, -1)
# From a map (N, C, H, W) of the teacher's level to logits (N, priors,
# classes) and boxes (N, priors, 4) as corners.
Reader = Callable[[Tensor], Tuple[Tensor, Tensor]]


class Reading(NamedTuple):
    """What a teacher's map is, and what its head makes of it.

    Attributes:
        mean (Tensor): Of each channel, ``(1, C, 1, 1)``.
        std (Tensor): Of each channel, ``(1, C, 1, 1)``.
        scores (Tensor): Probabilities ``(N, priors, classes)``.
        boxes (Tensor): Corners ``(N, priors, 4)``.
        best (Tensor): The largest score of each prior, ``(N, priors)``.
        features (Any): What the metric of the maps themselves wants.
    """

    mean: Tensor
    std: Tensor
    scores: Tensor
    boxes: Tensor
    best: Tensor
    features: Any


class CrossKDLoss(BaseMetricLoss):
    """The teacher's frozen head reads both maps; its predictions of the
    student's are led to those of the teacher's (section 3.3).

    The student's map first takes on mean and deviation of the teacher's,
    channel by channel, as the authors' code has it. Scores are compared by
    the quality focal loss ``|s(p) - s(q)|^beta BCE(p, s(q))``, boxes by ``1 -
    GIoU``, weighted by the teacher's largest score. The authors divide both
    by the number of priors that labels call positive, over all levels; here
    a level is divided by the sum of the teacher's largest scores on it,
    which needs no labels. A detection distiller says what reads.

    Args:
        beta (float): Of the quality focal loss.
        score_weight (float): Weight of the scores.
        box_weight (float): Weight of the boxes.
        features (BaseMetricLoss, optional): A metric of the maps themselves
            that is added, such as `PKDLoss`.
        eps (float): Added to the student's deviation.

    Attributes:
        reader (Callable, optional): From a map ``(N, C, H, W)`` to logits
            ``(N, priors, classes)`` and boxes ``(N, priors, 4)``.

    Examples:
        >>> def reader(maps):
        ...     places = maps.flatten(2).mT
        ...     return places[..., :4], places[..., 4:]
        >>> metric = CrossKDLoss()
        >>> metric.reader = reader
        >>> student, teacher = torch.randn(2, 2, 8, 5, 5).unbind()
        >>> metric(student, teacher).shape
        torch.Size([])
    """

    spaces = ('maps',)
    needs_reader = True
    ignores_scale = True
    takes_steps = True

    def __init__(
        self,
        beta: NotNegative = 1.0,
        score_weight: NotNegative = 1.0,
        box_weight: NotNegative = 1.0,
        features: Optional[BaseMetricLoss] = None,
        eps: Positive = 1e-6,
    ) -> None:
        super().__init__()
        self.beta, self.eps = beta, eps
        self.score_weight, self.box_weight = score_weight, box_weight
        self.reader: Optional[Reader] = None
        self.features = features
        if features is not None and (
            'maps' not in features.spaces or features.needs_reader
        ):
            raise ValueError(
                'features must be a metric of the maps themselves, but is '
                f'{type(features).__name__}.'
            )
        if features is not None:
            self.takes_steps = features.takes_steps

    def prepared(self, target: Tensor) -> Reading:
        std, mean = torch.std_mean(target, PLACES, keepdim=True)
        logits, boxes = self.reader(target)
        scores = logits.sigmoid()
        features = self.features and self.features.prepared(target)
        return Reading(mean, std, scores, boxes, scores.amax(-1), features)

    def compare(self, pred: Tensor, goal: Reading) -> Tensor:
        # No other metric wants torchvision, which takes seconds to import.
        from torchvision.ops import generalized_box_iou_loss

        std, mean = torch.std_mean(pred, PLACES, keepdim=True)
        aligned = (pred - mean) / (std + self.eps) * goal.std + goal.mean
        # The head takes the maps of all steps as one batch.
        logits, boxes = (
            x.view(*pred.shape[:-3], *x.shape[1:])
            for x in self.reader(aligned.flatten(0, -4))
        )
        unlike = (logits.sigmoid() - goal.scores).abs().pow(self.beta)
        entropy = F.binary_cross_entropy_with_logits(
            logits, goal.scores, reduction='none'
        )
        apart = generalized_box_iou_loss(boxes, goal.boxes, eps=self.eps)
        total = self.score_weight * (unlike * entropy).sum()
        total = total + self.box_weight * (goal.best * apart).sum()
        steps = std.numel() // std.shape[-3]
        loss = total / (steps * goal.best.sum().clamp_min(1.0))
        if self.features is not None:
            loss = loss + self.features.compare(pred, goal.features)
        return loss
