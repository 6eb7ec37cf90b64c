"""Cosine distance."""

import torch.nn.functional as F
from torch import Tensor

from .base import BaseMetricLoss

# Lower bound of the norms, which bounds the gradient at vectors near zero.
EPS = 1e-6


class CosineLoss(BaseMetricLoss):
    """``1 - cos(p, q)`` over channels, averaged over positions.

    p is the student's feature, q the teacher's. The loss is usual with vision
    foundation models as teachers, as in AM-RADIO (arXiv 2312.06709).

    Examples:
        >>> student = torch.randn(2, 8, 5, 5)
        >>> loss = CosineLoss()
        >>> torch.allclose(loss(3 * student, student), torch.tensor(0.0),
        ...                atol=1e-6)
        True
    """

    ignores_scale = True
    supports_step_dim = True

    def encode_target(self, target: Tensor) -> Tensor:
        return F.normalize(target, dim=channel_dim(target), eps=EPS)

    def compute_loss(self, pred: Tensor, target: Tensor) -> Tensor:
        pred = F.normalize(pred, dim=channel_dim(target), eps=EPS)
        return 1 - (pred * target).sum(channel_dim(target)).mean()


def channel_dim(target: Tensor) -> int:
    """Return the dimension of channels of maps, vectors or logits."""
    return -3 if target.dim() == 4 else -1
