"""FM-KT: the student's head receives the transferred feature
(arXiv 2402.02012, Alg. 1)."""

from typing import List, Optional, Tuple

from torch import Tensor

from .base import TransferInputs, TransferOutputs
from .sampler import EulerSampler
from .steps import StepBatch
from .teacher_flow_transfer import TeacherFlowTransfer
from .transforms import Losses, mean_prediction


class FMKT(TeacherFlowTransfer):
    """Loss ``1/N sum_i D(T(X_hat_i), X_T)``; ``mean_i X_hat_i`` is deployed.

    Arguments as `TeacherFlowTransfer`.

    Examples:
        >>> transfer = FMKT(
        ...     VelocityField(ConvEncoder(8), RectifiedFlow()), PKDLoss()
        ... )
        >>> student, teacher = torch.randn(2, 2, 8, 5, 5).unbind()
        >>> losses, feature = transfer(student, teacher, num_steps=4)
        >>> list(losses), feature.shape
        (['loss_flow'], torch.Size([2, 8, 5, 5]))
        >>> transfer.sample(student, num_steps=1).shape
        torch.Size([2, 8, 5, 5])
    """

    def _run(self, inputs: TransferInputs) -> TransferOutputs:
        source, target, head = inputs.source, inputs.target, inputs.head
        flow_target = None
        if target is not None:
            flow_target = self._flow_target(target, inputs)
        predictions: List[Tuple[Tensor, Losses]] = []

        def step_losses(steps: StepBatch) -> Losses:
            outputs = self._step_outputs(steps, target, head, predictions)
            if flow_target is None:
                return {}
            return dict(loss_flow=self._flow_loss(steps, outputs, flow_target))

        # With the student's head as T, only the encoder is checkpointed: a
        # head may have side effects, so it must not be recomputed.
        checkpoint_segments = self.with_cp and head is None
        sampler = self._training_sampler(
            source,
            None if flow_target is None else flow_target.output,
            inputs.num_steps,
            with_cp=self.with_cp and not checkpoint_segments,
        )
        losses, mean = sampler.accumulate(
            step_losses,
            with_mean=head is None,
            checkpoint_segments=checkpoint_segments,
        )
        task: Losses = {}
        if head is None:
            output = mean.to(source.dtype)
        else:
            output, task = mean_prediction(predictions)
        if target is None or flow_target is None:
            return dict(loss_flow=self._zero_loss(source)), task, output
        losses['loss_flow'] = self.loss_weight * losses['loss_flow']
        if inputs.diagnose:
            losses['metric_of_mean'] = self._metric_of_mean(
                output if head else self.transform(mean, target), flow_target
            )
        if self.direct_weight:
            pred = head(source)[0] if head else self.transform(source, target)
            losses['loss_direct'] = self._direct_loss(
                pred, target, inputs.labels
            )
        return losses, task, output

    def _training_sampler(
        self,
        source: Tensor,
        target: Optional[Tensor],
        num_steps: int,
        with_cp: bool,
    ) -> EulerSampler:
        """Return the sampler of training.

        Args:
            source (Tensor): ``X_S``.
            target (Tensor, optional): ``X_T``, permuted if pairs are
                decoupled.
            num_steps (int): N.
            with_cp (bool): Whether to checkpoint the encoder's ``body``.
        """
        return EulerSampler(self.field, source, num_steps, with_cp=with_cp)
