"""The metric's own distillation, which a flow is measured against."""

from typing import Optional, Tuple

from torch import Tensor

from .base import Transfer
from .transforms import Head, Losses


class DirectTransfer(Transfer):
    """No flow: ``D(T(X_S), X_T)``, under the same settings.

    Arguments as `Transfer`; steps play no part.

    Examples:
        >>> student, teacher = torch.randn(2, 2, 8, 5, 5).unbind()
        >>> losses, feature = DirectTransfer(metric=PKDLoss())(
        ...     student, teacher
        ... )
        >>> list(losses), feature is student
        (['loss_direct'], True)
    """

    def _run(
        self,
        source: Tensor,
        target: Optional[Tensor],
        num_steps: int,
        labels: Optional[Tensor],
        head: Optional[Head],
        order: Optional[Tensor],
        diagnose: bool,
    ) -> Tuple[Losses, Losses, Tensor]:
        output, task = head(source) if head else (source, {})
        if target is None:
            return dict(loss_direct=self._idle_loss(source)), task, output
        compared = output if head else self.transform(source, target)
        loss = self.loss_weight * self.metric(compared, target, labels)
        return dict(loss_direct=loss), task, output
