"""DIST: Knowledge Distillation from A Stronger Teacher (arXiv 2205.10536)."""

from typing import Tuple

from torch import Tensor

from ..bounds import NonNegative, Positive
from .base import BaseMetricLoss
from .distributed import gather_samples
from .functional import standardize


class DISTLoss(BaseMetricLoss):
    """``T^2 (beta inter + gamma intra)`` (arXiv 2205.10536, Eqs. 6 to 9),
    where inter and intra are 1 - Pearson correlation over classes and over
    samples.

    Both terms are 1 - r, where r is the Pearson correlation of the student's
    with the teacher's probabilities, softmax(logits / T): over the classes of
    each sample (inter), or over the samples of each class (intra). If the
    probabilities of student or teacher are constant, r is 0 and the term 1.

    Args:
        beta (float): Weight of the inter-class term; 1 in the authors' code
            for ImageNet.
        gamma (float): Weight of the intra-class term; as beta.
        temperature (float): T; 4 is usual on CIFAR, 1 on ImageNet.
        eps (float): Lower bound of the standard deviations.
        sync (bool): Whether the intra-class term is computed over the
            samples of all processes, or of each process separately.

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
        """Return the teacher's standardized probabilities."""
        return self._standardized_probabilities(target)

    def _standardized_probabilities(
        self, logits: Tensor
    ) -> Tuple[Tensor, Tensor]:
        """Return two tensors ``(..., B, classes)``: probabilities that are
        standardized over classes, and over samples."""
        logits = gather_samples(logits, self.sync, dim=-2)
        probabilities = (logits / self.temperature).softmax(-1)
        return (
            standardize(probabilities, (-1,), self.eps),
            standardize(probabilities, (-2,), self.eps),
        )

    def compute_loss(
        self, pred: Tensor, target: Tuple[Tensor, Tensor]
    ) -> Tensor:
        student = self._standardized_probabilities(pred)
        # The mean product of standardized values is their correlation.
        inter, intra = (1 - (p * q).mean() for p, q in zip(student, target))
        return self.temperature**2 * (self.beta * inter + self.gamma * intra)
