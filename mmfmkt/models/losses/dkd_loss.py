"""DKD: Decoupled Knowledge Distillation (arXiv 2203.08679)."""

import torch
import torch.nn.functional as F
from mmengine.logging import MessageHub
from torch import Tensor

from mmfmkt.registry import MODELS

from .base import BaseMetricLoss


def binary_log_probs(logits: Tensor, mask: Tensor) -> Tensor:
    """Log-probabilities of the labelled class and of all others together.

    Args:
        logits (Tensor): ``(N, classes)``.
        mask (Tensor): One-hot labels, bool, ``(N, classes)``.

    Returns:
        Tensor: ``(N, 2)``; sums of logits, so that neither can be log 0.
    """
    others = logits.masked_fill(mask, -torch.inf).logsumexp(1)
    return F.log_softmax(torch.stack([logits[mask], others], 1), dim=1)


@MODELS.register_module()
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
            weight; the epoch is read from MMEngine's message hub, and
            without a Runner there is no warm-up. 20 is usual on CIFAR-100,
            5 on ImageNet.
    """

    spaces = ('logits', )
    needs_labels = True

    def __init__(self,
                 alpha: float = 1.,
                 beta: float = 8.,
                 temperature: float = 4.,
                 warmup_epochs: int = 0) -> None:
        super().__init__()
        self.alpha, self.beta = alpha, beta
        self.temperature = temperature
        self.warmup_epochs = warmup_epochs

    def warmup(self) -> float:
        """Return the factor of the present epoch, in (0, 1]."""
        epoch = MessageHub.get_current_instance().runtime_info.get('epoch')
        if epoch is None or not self.warmup_epochs:
            return 1.
        return min((epoch + 1) / self.warmup_epochs, 1.)

    def compare(self, pred: Tensor, target: Tensor, labels: Tensor) -> Tensor:
        classes = pred.shape[1]
        mask = F.one_hot(labels, classes).bool()
        pred, target = pred / self.temperature, target / self.temperature
        tckd = F.kl_div(
            binary_log_probs(pred, mask),
            binary_log_probs(target, mask),
            reduction='batchmean',
            log_target=True)
        others = ~mask
        nckd = F.kl_div(
            F.log_softmax(pred[others].view(-1, classes - 1), dim=1),
            F.log_softmax(target[others].view(-1, classes - 1), dim=1),
            reduction='batchmean',
            log_target=True)
        loss = self.alpha * tckd + self.beta * nckd
        return self.warmup() * self.temperature**2 * loss
