"""DKD: Decoupled Knowledge Distillation (arXiv 2203.08679)."""

from typing import NamedTuple, Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from ..bounds import NonNegative, NonNegativeInt, Positive
from ..deprecation import renamed_argument
from .base import BaseMetricLoss
from .functional import kl_divergence, scale_by_temperature


class DecoupledLogits(NamedTuple):
    """Log-probabilities that DKD compares, decoupled at the labels.

    Attributes:
        mask (Tensor): One-hot labels, bool, ``(B, classes)``; True at the
            labeled class.
        binary (Tensor): Log-probabilities ``(..., B, 2)`` of the labeled
            class and of all others together. They are computed from sums of
            logits, so that neither is log 0.
        others (Tensor): Log-probabilities ``(..., B, classes)`` among the
            other classes; -inf at the labeled one.
    """

    mask: Tensor
    binary: Tensor
    others: Tensor


class DKDLoss(BaseMetricLoss):
    """``T^2 (alpha TCKD + beta NCKD)`` (arXiv 2203.08679, Eq. 7), with a
    linear warm-up. TCKD compares the probability of the labeled class, NCKD
    those of the other classes.

    TCKD (target-class KD) is the KL divergence between teacher and student for
    the binary distribution of labeled class and all other classes. NCKD
    (non-target-class KD) is the KL divergence for the distribution among the
    other classes. T is the temperature.

    Args:
        alpha (float): Weight of TCKD.
        beta (float): Weight of NCKD; in the authors' configs, 2 to 8 on
            CIFAR-100, 0.5 to 2 on ImageNet.
        temperature (float): T.
        warmup_epochs (int): Epochs in which the factor of the loss
            increases linearly to 1. A distiller sets the epoch (with
            IterBasedTrainLoop, ``robustness.exact_resume`` must be True); in
            plain PyTorch, call ``set_epoch``. The authors' configs have 20
            on CIFAR-100, 1 on ImageNet.
        standardize (bool): Whether to standardize the logits of each sample
            first (Logit Standardization, arXiv 2403.01427, Algorithm 1).
        standardise (bool, optional): Former name of ``standardize``.

    Attributes:
        warmup_factor (float): Factor of the loss, in (0, 1].

    Examples:
        >>> student, teacher = torch.randn(2, 8, 10).unbind()
        >>> DKDLoss()(student, teacher, labels=torch.arange(8)).shape
        torch.Size([])
    """

    spaces = ('logits',)
    supports_step_dim = True
    needs_labels = True

    def __init__(
        self,
        alpha: NonNegative = 1.0,
        beta: NonNegative = 8.0,
        temperature: Positive = 4.0,
        warmup_epochs: NonNegativeInt = 0,
        standardize: bool = False,
        standardise: Optional[bool] = None,
    ) -> None:
        super().__init__()
        self.standardize = renamed_argument(
            'standardise', standardise, 'standardize', standardize
        )
        self.alpha, self.beta = alpha, beta
        self.temperature = temperature
        self.warmup_epochs, self.warmup_factor = warmup_epochs, 1.0

    def set_epoch(self, epoch: int) -> None:
        """Set the warm-up factor of an epoch, counted from 0."""
        if self.warmup_epochs:
            self.warmup_factor = min((epoch + 1) / self.warmup_epochs, 1.0)

    def _loss_in_float32(
        self, pred: Tensor, target: DecoupledLogits
    ) -> Tensor:
        # The factor is outside `compute_loss`, which is compiled: a new
        # factor then causes no recompilation.
        weight = self.warmup_factor * self.temperature**2
        return weight * super()._loss_in_float32(pred, target)

    def encode_target(self, target: Tensor, labels: Tensor) -> DecoupledLogits:
        """Return the target's logits, decoupled at the labels.

        Raises:
            ValueError: If there are fewer than two classes.
        """
        if target.shape[1] < 2:
            raise ValueError(
                f'DKDLoss needs at least two classes, got {target.shape[1]}.'
            )
        mask = torch.zeros_like(target, dtype=torch.bool)
        mask.scatter_(1, labels[:, None], True)
        return self._decouple(target, mask)

    def _decouple(self, logits: Tensor, mask: Tensor) -> DecoupledLogits:
        """Decouple logits ``(..., B, classes)``.

        Masks instead of indices avoid a synchronization with the GPU.
        """
        logits = scale_by_temperature(
            logits, self.temperature, self.standardize
        )
        others = logits.masked_fill(mask, -torch.inf)
        labeled = logits.masked_fill(~mask, 0.0).sum(-1)
        binary = torch.stack([labeled, others.logsumexp(-1)], -1)
        return DecoupledLogits(
            mask, F.log_softmax(binary, dim=-1), F.log_softmax(others, dim=-1)
        )

    def compute_loss(self, pred: Tensor, target: DecoupledLogits) -> Tensor:
        student = self._decouple(pred, target.mask)
        tckd = kl_divergence(student.binary, target.binary)
        # At the labeled class both are -inf; its term is 0.
        log_ratio = target.others - student.others
        log_ratio = log_ratio.masked_fill(target.mask, 0.0)
        nckd = (target.others.exp() * log_ratio).sum()
        nckd = nckd / pred.shape[:-1].numel()
        return self.alpha * tckd + self.beta * nckd
