"""Euler sampler of a flow, from the student's feature to the teacher's.

With Z = X_S, for i = N, ..., 1 (arXiv 2402.02012, Alg. 1):

    t = i / N,  v = g(Z, t),  X_hat_i = (v - alpha'_t X_S) / sigma'_t,
    Z <- Z - v / N

The output is the mean of the estimates X_hat_i of the target. The sampler does
not see the target. A state interpolated between source and target would leak
it (`InterpolatedSampler`, for training only).

The sampler stores projected states, ``a = proj_in(Z)``; the first one is
``a_S = proj_in(X_S)``. In step i, the velocity is ``c_i X_S + b_i o_i`` and
the estimate is ``p_i X_S + q_i o_i``, where ``o_i = proj_out(h_i)`` is the
encoder's output, ``h_i = body(a, t)``, and the coefficients are those of the
schedule (`VelocityField.coefficients`).
Since ``proj_in`` and ``proj_out`` are linear,

    a <- a - (c_i a_S + b_i update(h_i)) / N

is the projected Euler step ``Z <- Z - v / N``, and the mean of the estimates
is ``(sum_i p_i X_S + proj_out(sum_i q_i h_i)) / N``. For most encoders
``proj_in`` is the identity and ``a`` is ``Z``. A bottleneck encoder runs its
first and last layer once, for any number of steps.
"""

import math
from typing import Callable, Dict, Iterator, List, Tuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..tensor_ops import linear_combination
from .steps import Step, StepBatch
from .velocity import VelocityField

# Values by name, such as losses.
Values = Dict[str, Tensor]
StepFunction = Callable[[StepBatch], Values]
# Key of the sum of hidden features among the values of a step function.
HIDDEN = 'hidden'


def step_indices(num_steps: int) -> range:
    """Return the indices N, ..., 1; step i starts at time i / N.

    Args:
        num_steps (int): N in training, K at inference.

    Raises:
        ValueError: If ``num_steps`` is not a positive integer.
    """
    if not isinstance(num_steps, int) or num_steps < 1:
        raise ValueError(
            f'num_steps must be a positive integer, got {num_steps!r}.'
        )
    return range(num_steps, 0, -1)


class EulerSampler:
    """Euler sampler over a velocity field.

    Args:
        field (VelocityField): The velocity field.
        source (Tensor): ``X_S = Z_1``, any shape that the field accepts.
        num_steps (int): N or K.
        with_cp (bool): Whether to checkpoint the encoder's ``body``.

    Examples:
        >>> field = VelocityField(ConvEncoder(8), RectifiedFlow())
        >>> sampler = EulerSampler(field, torch.randn(1, 8, 5, 5), num_steps=4)
        >>> [step.t for step in sampler]
        [1.0, 0.75, 0.5, 0.25]
        >>> sampler.mean().shape
        torch.Size([1, 8, 5, 5])
    """

    def __init__(
        self,
        field: VelocityField,
        source: Tensor,
        num_steps: int,
        with_cp: bool = False,
    ) -> None:
        self.field, self.num_steps, self.with_cp = field, num_steps, with_cp
        self.indices = step_indices(num_steps)
        encoder = field.encoder
        # Under autocast, weights and states have float32.
        weight_dtype = encoder.time_embedding.dtype
        self.source = source.to(
            torch.promote_types(source.dtype, weight_dtype)
        )
        self.projected_source = encoder.proj_in(self.source).to(self.source)
        times = [i / num_steps for i in self.indices]
        self.time_embeddings = encoder.embed_times(times).unbind()
        self.fused_weight = encoder.fused_weight() if num_steps > 1 else None
        # Coefficients p_i and q_i of the module's docstring. Hidden features
        # are summed with the weights q_i / max_q, whose absolute value is at
        # most 1, so that the sum does not overflow in float16. For a straight
        # schedule they are 1.
        self.coefs = [field.coefficients(t)[1] for t in times]
        qs = [x.output for x in self.coefs]
        self.max_q = max(qs) if max(qs) > -min(qs) else min(qs)

    def __iter__(self) -> Iterator[Step]:
        for step, _ in self.segment(self.projected_source, self.indices):
            yield step

    def segment(
        self, state: Tensor, indices: range
    ) -> Iterator[Tuple[Step, Tensor]]:
        """Compute consecutive steps.

        Args:
            state (Tensor): Projected state before the first of the steps.
            indices (range): Consecutive part of ``step_indices``.

        Yields:
            tuple: A step, and the state after it.
        """
        for i in indices:
            step = self.step(state, i)
            # After the last step, the state is only used if it is the mean.
            if i > 1 or self.final_state_is_mean:
                update = self.field.encoder.update(
                    step.hidden, self.source, self.fused_weight
                )
                change = step.velocity_coefs.combine(
                    self.projected_source, update.to(state)
                )
                state = state.add(change, alpha=-1 / self.num_steps)
            yield step, state

    def step(self, state: Tensor, i: int) -> Step:
        """Return step i, which starts from a projected state at time i / N."""
        body = self.field.encoder.body
        # The embeddings are in the order of the steps N, ..., 1.
        time = self.time_embeddings[-i]
        if self.with_cp:
            hidden = checkpoint(body, state, time, use_reentrant=False)
        else:
            hidden = body(state, time)
        hidden = hidden.to(state)
        return Step(self.field, self.source, hidden, i / self.num_steps)

    def accumulate(
        self,
        fn: StepFunction,
        with_mean: bool = True,
        checkpoint_segments: bool = False,
    ) -> Tuple[Values, Tensor]:
        """Average values over all steps without keeping the steps.

        Args:
            fn (Callable): Function from a batch of steps to named values,
                each the mean over these steps.
            with_mean (bool): Whether to return the mean of the estimates.
            checkpoint_segments (bool): Whether to checkpoint segments of
                about sqrt(N) steps, including ``fn`` (arXiv 1604.06174).
                ``fn`` must then have no side effects.

        Returns:
            tuple: Mean values over all steps, and the mean of the estimates.
            If ``with_mean`` is False, the second element is an unspecified
            tensor, which must not be used.
        """
        length = self.num_steps
        if checkpoint_segments:
            length = math.isqrt(self.num_steps - 1) + 1
        sum_hidden = with_mean and not self.final_state_is_mean
        totals: Values = {}
        state = self.projected_source
        for indices in split_range(self.indices, length):
            args = (state, indices, fn, sum_hidden, checkpoint_segments)
            if checkpoint_segments:
                values, state = checkpoint(
                    self._accumulate_segment, *args, use_reentrant=False
                )
            else:
                values, state = self._accumulate_segment(*args)
            add_values(totals, values)
        if sum_hidden:
            state = self._mean_from_hidden(totals.pop(HIDDEN))
        return {k: x / self.num_steps for k, x in totals.items()}, state

    def _accumulate_segment(
        self,
        state: Tensor,
        indices: range,
        fn: StepFunction,
        sum_hidden: bool,
        recompute: bool,
    ) -> Tuple[Values, Tensor]:
        """Return the sums of values over a segment, and the state after it.

        Args:
            state (Tensor): As ``segment``.
            indices (range): As ``segment``.
            fn (Callable): As ``accumulate``.
            sum_hidden (bool): Whether to sum the hidden features as well, for
                the mean of the estimates.
            recompute (bool): Whether the segment is checkpointed.
        """
        totals: Values = {}
        for group in split_range(indices, steps_per_batch(state, indices)):
            steps = []
            for step, next_state in self.segment(state, group):
                steps.append(step)
                state = next_state
            batch = StepBatch(steps, recompute)
            values = fn(batch)
            if len(steps) > 1:
                values = {k: len(steps) * x for k, x in values.items()}
            if sum_hidden:
                values = {**values, HIDDEN: batch.scaled_hidden(self.max_q)}
            add_values(totals, values)
        return totals, state

    @property
    def final_state_is_mean(self) -> bool:
        """Whether the state after the last step is the mean of the estimates.

        This holds for a straight schedule and an encoder without projections.
        Under other schedules, the state after the last step still contains
        part of the source and has a discretization error that depends on K;
        the mean of the estimates has neither.
        """
        encoder = self.field.encoder
        return self.field.schedule.straight and not encoder.has_projections

    def _mean_from_hidden(self, hidden: Tensor) -> Tensor:
        """Return the mean of the estimates.

        Args:
            hidden (Tensor): ``sum_i (q_i / max_q) h_i``, with q_i and h_i of
                the module's docstring.
        """
        source_coef = sum([x.source for x in self.coefs])
        output = self.field.encoder.proj_out(hidden, self.source)
        n = self.num_steps
        return linear_combination(
            source_coef / n,
            self.source,
            self.max_q / n,
            output.to(self.source),
        )

    def mean(self) -> Tensor:
        """Return the mean of the estimates, which is deployed."""
        return self.accumulate(lambda steps: {})[1]


class InterpolatedSampler(EulerSampler):
    """Sampler whose states are interpolated between source and target.

    Args:
        field (VelocityField): The velocity field.
        source (Tensor): ``X_S = Z_1``.
        num_steps (int): N.
        target (Tensor): ``X_T = Z_0``, shape of ``source``.
        with_cp (bool): As `EulerSampler`.

    Examples:
        >>> field = VelocityField(ConvEncoder(8), RectifiedFlow())
        >>> source, target = torch.randn(2, 1, 8, 5, 5).unbind()
        >>> len(list(InterpolatedSampler(field, source, 4, target)))
        4
    """

    final_state_is_mean = False

    def __init__(
        self,
        field: VelocityField,
        source: Tensor,
        num_steps: int,
        target: Tensor,
        with_cp: bool = False,
    ) -> None:
        super().__init__(field, source, num_steps, with_cp=with_cp)
        self.target = target.detach().to(self.source)

    def segment(
        self, state: Tensor, indices: range
    ) -> Iterator[Tuple[Step, Tensor]]:
        for i in indices:
            interpolated = self.field.schedule.interpolate(
                self.source, self.target, i / self.num_steps
            )
            projected = self.field.encoder.proj_in(interpolated)
            # No Euler step is taken, so the state after the step is unused.
            yield self.step(projected.to(interpolated), i), state


def split_range(indices: range, length: int) -> List[range]:
    """Split a range into parts of a length; the last one may be shorter."""
    starts = range(0, len(indices), length)
    return [indices[begin : begin + length] for begin in starts]


def steps_per_batch(state: Tensor, indices: range) -> int:
    """Return how many steps are processed as one batch.

    On a CPU it is one step, whose tensors stay in the CPU's caches. On other
    devices it is all steps, which launches the fewest kernels. Without
    gradients it is one step, whose tensors are freed after it.
    """
    is_single = state.device.type == 'cpu' or not torch.is_grad_enabled()
    return 1 if is_single else len(indices)


def add_values(totals: Values, values: Values) -> None:
    """Add values to totals of the same names, in place."""
    for name, x in values.items():
        totals[name] = totals[name] + x if name in totals else x
