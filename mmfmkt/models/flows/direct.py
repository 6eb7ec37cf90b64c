"""The metric's own distillation, which a flow is measured against."""

from typing import Callable, Dict, Optional, Sequence, Tuple

from torch import Tensor

from .base import Transfer
from .transforms import Head, Losses


class DirectTransfer(Transfer):
    """No flow: ``D(T(X_S), X_T)``, under the same settings.

    Arguments as `Transfer`, but for ``field``, ``direct_weight`` and
    ``compare``; steps play no part.

    Examples:
        >>> student, teacher = torch.randn(2, 2, 8, 5, 5).unbind()
        >>> losses, feature = DirectTransfer(metric=PKDLoss())(
        ...     student, teacher
        ... )
        >>> list(losses), feature is student
        (['loss_direct'], True)
    """

    deploys_flow = False
    pairs = False
    walks = False

    def _check(self) -> None:
        if self.direct_weight or self.compare != 'targets':
            raise ValueError(
                'direct_weight and compare mean nothing to the variant '
                "'direct', which has no flow: leave them out."
            )
        super()._check()

    def forward(
        self,
        source: Tensor,
        target: Optional[Tensor],
        num_steps: int = 0,
        labels: Optional[Tensor] = None,
        head: Optional[Head] = None,
        order: Optional[Tensor] = None,
        diagnose: bool = False,
    ) -> Tuple[Losses, Tensor]:
        if target is None and head is None:
            return dict(loss_direct=self._idle_loss(source)), source
        output, task = self._read(source, target, head)
        if target is None:
            direct = self._idle_loss(source)
        else:
            direct = self.loss_weight * self.metric(output, target, labels)
        return {'loss_direct': direct, **task}, output if head else source

    def logits(
        self,
        source: Tensor,
        counts: Sequence[int],
        head: Callable[[Tensor], Tensor],
    ) -> Dict[int, Tensor]:
        """Return the plain student's logits, for each number of steps."""
        return dict.fromkeys(counts, head(source))
