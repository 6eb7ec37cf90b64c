"""DIST: Knowledge Distillation from A Stronger Teacher (arXiv 2205.10536)."""

from typing import Tuple

from torch import Tensor

from ..bounds import NonNegative, Positive
from .base import BaseMetricLoss
from .distributed import gather_samples
from .functional import standardize


class DISTLoss(BaseMetricLoss):
    """``T^2 (beta inter + gamma intra)``, each 1 - Pearson (Eqs. 6 to 9).

    Probabilities softmax(. / T) are correlated over the classes of each
    sample (inter) and over the samples of each class (intra). If one side is
    constant, the correlation is 0 and the term is 1.

    Args:
        beta (float): Weight of the inter-class term.
        gamma (float): Weight of the intra-class term.
        temperature (float): T; 4 is usual on CIFAR, 1 on ImageNet.
        eps (float): Lower bound of the standard deviations.
        sync (bool): Whether the intra-class term is over the samples of all
            processes instead of each process's own.

    Examples:
        >>> student, teacher = torch.randn(2, 8, 10).unbind()
        >>> DISTLoss()(student, teacher).shape
        torch.Size([])
    """

    spaces = ('logits',)
    supports_step_dim = True

    def __init__(
        self,
        beta: NonNegative = 2.0,
        gamma: NonNegative = 2.0,
        temperature: Positive = 4.0,
        eps: Positive = 1e-8,
        sync: bool = False,
    ) -> None:
        super().__init__()
        self.sync = sync
        self.beta, self.gamma = beta, gamma
        self.temperature, self.eps = temperature, eps

    def encode_target(self, target: Tensor) -> Tuple[Tensor, Tensor]:
        """Return probabilities, standardized over classes and samples."""
        target = gather_samples(target, self.sync, dim=-2)
        probabilities = (target / self.temperature).softmax(-1)
        return (
            standardize(probabilities, (-1,), self.eps),
            standardize(probabilities, (-2,), self.eps),
        )

    def compute_loss(
        self, pred: Tensor, target: Tuple[Tensor, Tensor]
    ) -> Tensor:
        inter, intra = (
            1 - (p * q).mean()
            for p, q in zip(self.encode_target(pred), target)
        )
        return self.temperature**2 * (self.beta * inter + self.gamma * intra)
