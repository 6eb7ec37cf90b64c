"""DKD: Decoupled Knowledge Distillation (arXiv 2203.08679)."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..bounds import Index, NotNegative, Positive
from .base import BaseMetricLoss
from .correlation import divergence, tempered


class Decoupled(NamedTuple):
    """What DKD compares of logits.

    Attributes:
        mask (Tensor): One-hot labels, bool, ``(N, classes)``.
        binary (Tensor): Log-probabilities ``(..., N, 2)`` of the labelled
            class and of all others together; sums of logits, so that neither
            can be log 0.
        others (Tensor): Log-probabilities ``(..., N, classes)`` among the
            other classes; -inf at the labelled one.
    """

    mask: Tensor
    binary: Tensor
    others: Tensor

    @classmethod
    def of(cls, logits: Tensor, mask: Tensor) -> 'Decoupled':
        """Take logits ``(..., N, classes)`` apart; no GPU is waited for."""
        rest = logits.masked_fill(mask, -torch.inf)
        labelled = logits.masked_fill(~mask, 0.0).sum(-1)
        binary = torch.stack([labelled, rest.logsumexp(-1)], -1)
        return cls(
            mask, F.log_softmax(binary, dim=-1), F.log_softmax(rest, dim=-1)
        )


class DKDLoss(BaseMetricLoss):
    """T^2 (alpha TCKD + beta NCKD), Eq. 7, with a linear warm-up.

    TCKD is the KL divergence between the binary probabilities of the
    labelled class, NCKD the one among the other classes.

    Args:
        alpha (float): Weight of TCKD.
        beta (float): Weight of NCKD; 2 to 8 are usual on CIFAR-100, 0.5
            with alpha 0.5 on ImageNet.
        temperature (float): T.
        warmup_epochs (int): Epochs over which the loss grows to its full
            weight, as ``set_epoch`` is called; 20 is usual on CIFAR-100, 5
            on ImageNet.
        standardise (bool): Whether logits have their mean taken away and are
            divided by their standard deviation first, sample by sample
            (Logit Standardization, arXiv 2403.01427, Algorithm 1).

    Attributes:
        warmup_factor (float): Factor of the loss, in (0, 1].

    Examples:
        >>> student, teacher = torch.randn(2, 8, 10).unbind()
        >>> DKDLoss()(student, teacher, labels=torch.arange(8)).shape
        torch.Size([])
    """

    spaces = ('logits',)
    takes_steps = True
    needs_labels = True

    def __init__(
        self,
        alpha: NotNegative = 1.0,
        beta: NotNegative = 8.0,
        temperature: Positive = 4.0,
        warmup_epochs: Index = 0,
        standardise: bool = False,
    ) -> None:
        super().__init__()
        self.standardise = standardise
        self.alpha, self.beta = alpha, beta
        self.temperature = temperature
        self.warmup_epochs, self.warmup_factor = warmup_epochs, 1.0

    def set_epoch(self, epoch: int) -> None:
        """Set the warm-up factor to that of an epoch, counted from 0."""
        if self.warmup_epochs:
            self.warmup_factor = min((epoch + 1) / self.warmup_epochs, 1.0)

    def _compare_exactly(self, pred: Tensor, content: Decoupled) -> Tensor:
        # Outside `compare`, so that a new factor compiles nothing again.
        weight = self.warmup_factor * self.temperature**2
        return weight * super()._compare_exactly(pred, content)

    def prepared(self, target: Tensor, labels: Tensor) -> Decoupled:
        """The target's logits, taken apart at the labels.

        Raises:
            ValueError: If there is no class beside the labelled one.
        """
        if target.shape[1] < 2:
            raise ValueError('DKDLoss needs two classes or more.')
        mask = torch.zeros_like(target, dtype=torch.bool)
        mask.scatter_(1, labels[:, None], True)
        return Decoupled.of(self._tempered(target), mask)

    def _tempered(self, logits: Tensor) -> Tensor:
        return tempered(logits, self.temperature, self.standardise)

    def compare(self, pred: Tensor, goal: Decoupled) -> Tensor:
        own = Decoupled.of(self._tempered(pred), goal.mask)
        tckd = divergence(own.binary, goal.binary)
        # At the labelled class both are -inf, and count for nothing.
        gap = (goal.others - own.others).masked_fill(goal.mask, 0.0)
        nckd = (goal.others.exp() * gap).sum() / gap.shape[:-1].numel()
        return self.alpha * tckd + self.beta * nckd
