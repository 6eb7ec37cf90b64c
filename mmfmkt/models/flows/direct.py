"""Distillation without a flow, as a baseline."""

from .base import Transfer, TransferInputs, TransferOutputs


class DirectTransfer(Transfer):
    """Loss ``D(T(X_S), X_T)`` of the student's feature, without a flow.

    T is the student's head if `forward_head` gets one. Arguments as
    `Transfer`; `forward` ignores ``num_steps``.

    Examples:
        >>> student, teacher = torch.randn(2, 2, 8, 5, 5).unbind()
        >>> losses, feature = DirectTransfer(metric=PKDLoss())(
        ...     student, teacher
        ... )
        >>> list(losses), feature is student
        (['loss_direct'], True)
    """

    def _run(self, inputs: TransferInputs) -> TransferOutputs:
        source, target, head = inputs.source, inputs.target, inputs.head
        output, task = head(source) if head else (source, {})
        if target is None:
            return dict(loss_direct=self._zero_loss(source)), task, output
        pred = output if head else self.transform(source, target)
        loss = self.distillation_loss(pred, target, inputs.labels)
        return dict(loss_direct=self.loss_weight * loss), task, output
