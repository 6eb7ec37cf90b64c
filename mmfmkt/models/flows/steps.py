"""Steps of the sampler: velocities, and estimates of the target."""

from contextlib import nullcontext
from typing import ContextManager, List, Sequence, Union

import torch
from torch import Tensor

from ..tensor_ops import sequential_sum
from .encoders.layers import is_compiling
from .velocity import Coefficients, VelocityField


class Step:
    """One step of the sampler; its attributes are computed when they are read.

    Args:
        field (VelocityField): The velocity field.
        source (Tensor): ``X_S``.
        hidden (Tensor): Output of the encoder's ``body``, with the channels
            of the projected state.
        t (float): Time at the start of the step, in (0, 1].

    Attributes:
        velocity (Tensor): v(Z_t, t), shape of ``source``.
        estimate (Tensor): Estimate X_hat of the target, shape of ``source``.

    Examples:
        >>> field = VelocityField(ConvEncoder(8), RectifiedFlow())
        >>> source = torch.randn(1, 8, 5, 5)
        >>> (time,) = field.encoder.embed_times([1.0])
        >>> step = Step(field, source, field.encoder.body(source, time), 1.0)
        >>> torch.equal(step.estimate, source - step.velocity)
        True
    """

    def __init__(
        self, field: VelocityField, source: Tensor, hidden: Tensor, t: float
    ) -> None:
        self.field, self.source = field, source
        self.hidden, self.t = hidden, t
        self.velocity_coefs, self.estimate_coefs = field.coefficients(t)

    @property
    def velocity(self) -> Tensor:
        return StepBatch([self]).velocity[0]

    @property
    def estimate(self) -> Tensor:
        return StepBatch([self]).estimate[0]


class StepBatch:
    """Several steps as one batch, with a leading dimension of steps.

    The encoder's ``body`` has run step by step; ``proj_out`` runs once on the
    batch.

    Args:
        steps (Sequence[Step]): One or more steps of one sampler.
        recompute (bool): Whether the steps are checkpointed, so that their
            tensors are not saved for backward.

    Examples:
        >>> field = VelocityField(ConvEncoder(8), RectifiedFlow())
        >>> source = torch.randn(2, 8, 5, 5)
        >>> steps = list(EulerSampler(field, source, num_steps=4))
        >>> StepBatch(steps).estimate.shape
        torch.Size([4, 2, 8, 5, 5])
    """

    def __init__(self, steps: Sequence[Step], recompute: bool = False) -> None:
        self.steps, self.recompute = steps, recompute
        self.field, self.source = steps[0].field, steps[0].source
        # (steps * B, ...).
        self.hidden = steps[0].hidden
        if len(steps) > 1:
            self.hidden = torch.cat([step.hidden for step in steps])

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def encoder_output(self) -> Tensor:
        """Encoder outputs, ``(steps, *source.shape)``."""
        with self._save_steps_not_batch():
            output = self.field.encoder.proj_out(self.hidden, self.source)
        return output.to(self.source).unflatten(0, (len(self), -1))

    @property
    def velocity(self) -> Tensor:
        """Velocities, ``(steps, *source.shape)``."""
        return self._combine([step.velocity_coefs for step in self.steps])

    @property
    def estimate(self) -> Tensor:
        """Estimates of the target, ``(steps, *source.shape)``."""
        return self._combine([step.estimate_coefs for step in self.steps])

    def _combine(self, coefs: Sequence[Coefficients]) -> Tensor:
        """Return the linear combinations of source and encoder output.

        Args:
            coefs (Sequence[Coefficients]): Coefficients of each step.
        """
        output = self.encoder_output
        if len(set(coefs)) == 1:
            return coefs[0].combine(self.source[None], output)
        return torch.stack(
            [x.combine(self.source, y) for x, y in zip(coefs, output)]
        )

    def scaled_hidden(self, max_q: float) -> Tensor:
        """Return ``sum_i (q_i / max_q) h_i`` over the steps i, where h_i is
        ``hidden`` and q_i the coefficient of the encoder's output in the
        estimate.

        Args:
            max_q (float): Divisor, `EulerSampler.max_q`.
        """
        factors = [step.estimate_coefs.output / max_q for step in self.steps]
        if len(self) > 1 and set(factors) == {1.0}:
            return self.hidden.unflatten(0, (len(self), -1)).sum(0)
        hidden = [step.hidden for step in self.steps]
        return sequential_sum(
            [h if f == 1 else f * h for f, h in zip(factors, hidden)]
        )

    def _save_steps_not_batch(self) -> ContextManager:
        """Return a context in which autograd does not save ``hidden``.

        The sampler saves the hidden feature of each step for backward anyway;
        ``proj_out`` would also save their concatenation. Backward
        concatenates them again instead.
        """
        has_projections = self.field.encoder.has_projections
        is_batch = len(self) > 1 and has_projections
        if not is_batch or self.recompute or is_compiling():
            return nullcontext()
        batch, per_step = self.hidden, [step.hidden for step in self.steps]

        def pack(x: Tensor) -> Union[Tensor, List[Tensor]]:
            return per_step if x is batch else x

        def unpack(x: Union[Tensor, List[Tensor]]) -> Tensor:
            return torch.cat(x) if isinstance(x, list) else x

        return torch.autograd.graph.saved_tensors_hooks(pack, unpack)
