"""OFM-KT: self-distillation of the steps, without a teacher (arXiv
2402.02012)."""

from typing import List, Tuple

import torch
from torch import Tensor

from ..tensor_ops import sequential_sum
from .base import TransferInputs, TransferOutputs
from .flow_transfer import FlowTransfer
from .sampler import EulerSampler
from .steps import StepBatch
from .transforms import Losses, mean_prediction


class OFMKT(FlowTransfer):
    """Loss ``1/N sum_i D(o_i, sg(mean_j o_j))`` of outputs o_i = T(X_hat_i).

    sg stops the gradient. In ``forward`` T is the identity; in
    ``forward_head`` T is the student's head, whose task losses are averaged
    over the steps. Arguments as `FlowTransfer`.

    Examples:
        >>> transfer = OFMKT(
        ...     VelocityField(ConvEncoder(8), RectifiedFlow()), MSELoss()
        ... )
        >>> losses, feature = transfer(torch.randn(2, 8, 5, 5), None, 4)
        >>> list(losses)
        ['loss_flow']
    """

    needs_teacher = False

    def _run(self, inputs: TransferInputs) -> TransferOutputs:
        source, num_steps, head = inputs.source, inputs.num_steps, inputs.head
        # Keep the outputs of all steps: the loss compares them with their
        # mean.
        sampler = EulerSampler(
            self.field, source, num_steps, with_cp=self.with_cp
        )
        outputs: List[Tensor] = []
        predictions: List[Tuple[Tensor, Losses]] = []

        def collect(steps: StepBatch) -> Losses:
            outputs.append(self._step_outputs(steps, None, head, predictions))
            return {}

        sampler.accumulate(collect, with_mean=False)
        mean = torch.cat(outputs).mean(0)
        metric = self.distillation_loss
        mean_target = metric.prepare_target(mean, inputs.labels, source.dtype)
        step_losses = [
            len(x) * metric.mean_loss_over_steps(x, mean_target)
            for x in outputs
        ]
        loss = self.loss_weight * sequential_sum(step_losses) / num_steps
        task = mean_prediction(predictions)[1] if predictions else {}
        output = mean if head else mean.to(source.dtype)
        return dict(loss_flow=loss), task, output
