"""DIST: Knowledge Distillation from A Stronger Teacher (arXiv 2205.10536)."""

from typing import Tuple

from torch import Tensor

from ..bounds import NotNegative, Positive
from .base import BaseMetricLoss
from .correlation import standardize
from .processes import gathered


class DISTLoss(BaseMetricLoss):
    """T^2 (beta inter + gamma intra), each 1 - Pearson (Eqs. 6 to 9).

    Correlated are probabilities softmax(. / T): inter over the classes of a
    sample, intra over the samples of a class. Where one side is constant
    there is no correlation, and the term is 1.

    Args:
        beta (float): Weight of the inter-class term.
        gamma (float): Weight of the intra-class term.
        temperature (float): T; 4 is usual on CIFAR, 1 on ImageNet.
        eps (float): Smallest standard deviation that is divided by.
        sync (bool): Whether the classes are correlated over the samples of
            all processes instead of each process's own.

    Examples:
        >>> student, teacher = torch.randn(2, 8, 10).unbind()
        >>> DISTLoss()(student, teacher).shape
        torch.Size([])
    """

    spaces = ('logits',)
    takes_steps = True

    def __init__(
        self,
        beta: NotNegative = 2.0,
        gamma: NotNegative = 2.0,
        temperature: Positive = 4.0,
        eps: Positive = 1e-8,
        sync: bool = False,
    ) -> None:
        super().__init__()
        self.sync = sync
        self.beta, self.gamma = beta, gamma
        self.temperature, self.eps = temperature, eps

    def prepared(self, target: Tensor) -> Tuple[Tensor, Tensor]:
        """Probabilities, standardised over classes and over samples."""
        target = gathered(target, self.sync, dim=-2)
        probabilities = (target / self.temperature).softmax(-1)
        return tuple(
            standardize(probabilities, (dim,), self.eps) for dim in (-1, -2)
        )

    def compare(self, pred: Tensor, goal: Tuple[Tensor, Tensor]) -> Tensor:
        inter, intra = (
            1 - (p * q).mean() for p, q in zip(self.prepared(pred), goal)
        )
        return self.temperature**2 * (self.beta * inter + self.gamma * intra)
