"""What all metrics D(p, q) share: precision, checks and a fixed target."""

from abc import ABCMeta, abstractmethod
from typing import Any, NamedTuple, Optional

import torch
from torch import Tensor, nn


class Prepared(NamedTuple):
    """A target, prepared for one metric.

    Attributes:
        shape (torch.Size): Its shape.
        content (Any): What the metric keeps of it.
    """

    shape: torch.Size
    content: Any


class BaseMetricLoss(nn.Module, metaclass=ABCMeta):
    """A metric-based distillation loss D(p, q).

    Computed in float32 or better whatever autocast says, since sums over
    whole feature maps overflow or lose their last digits in half precision.
    No gradient reaches the target.

    Attributes:
        spaces (tuple[str]): What it compares: ``'maps'`` (N, C, H, W),
            ``'vectors'`` (N, C), ``'logits'`` (N, classes).
        needs_labels (bool): Whether it needs the class of each sample.
        ignores_scale (bool): Whether a factor on p changes nothing.
        needs_reader (bool): Whether a part of the teacher reads what is
            compared; it is set as ``reader``.
        takes_steps (bool): Whether ``compare`` takes p with a leading
            dimension of steps and gives the mean over them. A subclass that
            writes a ``compare`` of its own and does not say so has its steps
            compared one by one.
    """

    spaces = ('maps', 'vectors', 'logits')
    needs_labels = False
    ignores_scale = False
    needs_reader = False
    takes_steps = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if 'compare' in vars(cls) and 'takes_steps' not in vars(cls):
            cls.takes_steps = False

    def forward(
        self, pred: Tensor, target: Tensor, labels: Optional[Tensor] = None
    ) -> Tensor:
        """Compare what the student gives with what the teacher gives.

        Args:
            pred (Tensor): p, of any floating type.
            target (Tensor): q, of the same shape; it is detached.
            labels (Tensor, optional): Classes ``(N, )``, or probabilities
                ``(N, classes)`` of which the largest counts; for metrics
                that need them.

        Returns:
            Tensor: Scalar loss, float32 (float64 for float64 input).

        Raises:
            ValueError: If the shapes differ or are none that the metric
                compares, or if labels are missing.
        """
        self._check_alike(pred, target.shape)
        return self.measure(pred, self.prepare(target, labels, pred.dtype))

    @torch.no_grad()
    def prepare(
        self,
        target: Tensor,
        labels: Optional[Tensor] = None,
        dtype: Optional[torch.dtype] = None,
    ) -> Prepared:
        """Compute what depends on the target alone, once for all steps.

        Args:
            target (Tensor): q.
            labels (Tensor, optional): As in ``forward``.
            dtype (torch.dtype, optional): Type of what will be compared
                with it; by default that of the target.

        Raises:
            ValueError: As ``forward``, for the target.
        """
        self._check(target, labels)
        if labels is not None and labels.dim() == 2:
            labels = labels.argmax(1)
        with torch.autocast(target.device.type, enabled=False):
            return Prepared(
                target.shape,
                self.prepared(
                    target.detach().to(exact(dtype or target.dtype)),
                    **(dict(labels=labels) if self.needs_labels else {}),
                ),
            )

    def measure(self, pred: Tensor, goal: Prepared) -> Tensor:
        """Compare with a target that is prepared.

        Args:
            pred (Tensor): p, of any floating type.
            goal (Prepared): What ``prepare`` gave.

        Returns:
            Tensor: As ``forward``.

        Raises:
            ValueError: If the shapes differ.
        """
        self._check_alike(pred, goal.shape)
        return self._compare_exactly(pred, goal.content)

    def measure_steps(self, preds: Tensor, goal: Prepared) -> Tensor:
        """Mean of ``measure`` over a leading dimension of steps.

        Args:
            preds (Tensor): ``(steps, *goal.shape)``, of any floating type.
            goal (Prepared): What ``prepare`` gave.

        Returns:
            Tensor: As ``forward``.

        Raises:
            ValueError: If the shapes differ.
        """
        if len(preds) == 1:
            return self.measure(preds[0], goal)
        self._check_alike(preds[0], goal.shape)
        if self.takes_steps:
            return self._compare_exactly(preds, goal.content)
        each = [self._compare_exactly(x, goal.content) for x in preds]
        return sum(each) / len(each)

    def _compare_exactly(self, pred: Tensor, content: Any) -> Tensor:
        with torch.autocast(pred.device.type, enabled=False):
            return self.compare(pred.to(exact(pred.dtype)), content)

    def set_epoch(self, epoch: int) -> None:
        """Adapt to the progress of the training; most losses do not.

        A distiller calls this in each iteration.

        Args:
            epoch (int): Index of the epoch, from 0.
        """

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the comparison; arguments of ``torch.compile``."""
        self.compare = torch.compile(self.compare, *args, **kwargs)

    def _check_alike(self, pred: Tensor, shape: torch.Size) -> None:
        if pred.shape != shape:
            raise ValueError(
                f'{type(self).__name__} compares tensors of one shape, but '
                f'got {tuple(pred.shape)} and {tuple(shape)}.'
            )

    def _check(self, target: Tensor, labels: Optional[Tensor]) -> None:
        name = type(self).__name__
        if not target.numel():
            raise ValueError(
                f'{name} has nothing to compare: the target is of shape '
                f'{tuple(target.shape)}.'
            )
        if target.dim() != 4 and self.spaces == ('maps',):
            raise ValueError(
                f'{name} compares feature maps (N, C, H, W), but got a '
                f'tensor of shape {tuple(target.shape)}.'
            )
        if target.dim() != 2 and 'maps' not in self.spaces:
            raise ValueError(
                f'{name} compares logits (N, classes), but got '
                f'a tensor of shape {tuple(target.shape)}.'
            )
        if self.needs_labels and labels is None:
            raise ValueError(f'{name} needs labels, but got none.')

    def prepared(self, target: Tensor) -> Any:
        """Return what ``compare`` wants of a target, float32 or float64.

        A metric that needs labels takes ``labels`` ``(N, )`` as well.
        """
        return target

    @abstractmethod
    def compare(self, pred: Tensor, goal: Any) -> Tensor:
        """Return D(pred, target), of what ``prepared`` made of the target.

        With ``takes_steps`` the mean over the steps, where there is a leading
        dimension of them.
        """


def exact(dtype: torch.dtype) -> torch.dtype:
    """float32, or float64 where that is given."""
    return torch.promote_types(dtype, torch.float32)
