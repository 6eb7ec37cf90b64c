"""The walk of the state from the student's feature to the teacher's.

Equal Euler steps from t = 1 to t = 0 (section 2, Alg. 1) that follow their
own trajectory: a walk never sees the target, which an interpolated state
would leak.

The walk is one in the space that the encoder enters, ``a_t = enter(Z_t)``.
Velocities and estimates are mixtures of the source and of what leaves the
encoder, and entering and leaving are linear, so

    a <- a - (c a_1 + b turn(h)) / N,    h = inside(a, t),

is the step ``Z <- Z - v / N`` as ``enter`` sees it, and the mean of the
estimates is ``P X_S + leave(sum_i q_i h_i)``. For most encoders entering is
the identity and this is the plain walk; one that narrows its input pays its
first and last layer once, however many steps there are.
"""

import math
from typing import Callable, Dict, Iterator, List, Optional, Tuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..losses.base import exact
from .schedules import combine
from .steps import Step, Steps
from .velocity import VelocityField

Sums = Dict[str, Tensor]
Visit = Callable[[Steps], Sums]
# What is summed for the mean, beside the names that a visit gives.
INNER = 'inner'


def countdown(num_steps: int) -> range:
    """Which steps a walk takes: N, ..., 1, the step i starting at i / N.

    Args:
        num_steps (int): N in training, K at inference.

    Raises:
        ValueError: If ``num_steps`` is not a positive integer.
    """
    if not isinstance(num_steps, int) or num_steps < 1:
        raise ValueError(
            f'A flow walks in 1 step or more (num_steps, inference_steps), '
            f'but got {num_steps!r}.'
        )
    return range(num_steps, 0, -1)


class Walk:
    """A walk of N steps, in stretches where memory is to be saved.

    Args:
        field (VelocityField): What gives the velocity.
        source (Tensor): ``X_S = Z_1``, any shape that the field takes.
        num_steps (int): N or K.
        first (Tensor, optional): What the encoder has inside in the first
            step, where another walk from here has found it.
        with_cp (bool): Whether backward computes the inside of the encoder
            once more instead of keeping what it needs.

    Examples:
        >>> field = VelocityField(ConvEncoder(8), RectifiedFlow())
        >>> walk = Walk(field, torch.randn(1, 8, 5, 5), num_steps=4)
        >>> [step.t for step in walk]
        [1.0, 0.75, 0.5, 0.25]
        >>> walk.mean().shape
        torch.Size([1, 8, 5, 5])
    """

    def __init__(
        self,
        field: VelocityField,
        source: Tensor,
        num_steps: int,
        first: Optional[Tensor] = None,
        with_cp: bool = False,
    ) -> None:
        self.field, self.num_steps, self.first = field, num_steps, first
        self.with_cp = with_cp and torch.is_grad_enabled()
        # Whether backward walks once more, and keeps no step for it.
        self.recomputed = False
        self.numbers = countdown(num_steps)
        # States are kept in float32 or better.
        self.source = source.to(exact(source.dtype))
        self.start = field.encoder.enter(self.source).to(self.source)
        times = [i / num_steps for i in self.numbers]
        self.times = field.encoder.embed(times).unbind()
        self.joint = field.encoder.joint() if num_steps > 1 else None
        self.unit = field.mixtures(times[0])[1].given

    def __iter__(self) -> Iterator[Step]:
        for step, _ in self.stretch(self.start, self.numbers):
            yield step

    def stretch(
        self, state: Tensor, numbers: range
    ) -> Iterator[Tuple[Step, Tensor]]:
        """Walk a part of the way.

        Args:
            state (Tensor): Where it starts, in the space of the encoder.
            numbers (range): A part of ``countdown``.

        Yields:
            tuple: A step, and the state after it.
        """
        for i in numbers:
            step = self.step(state, i)
            # The last state of a narrow walk is not what is wanted of it.
            if i > 1 or self.ends_at_mean:
                turned = self.field.encoder.turn(
                    step.inner, self.source, self.joint
                )
                change = step.mixtures[0].of(self.start, turned.to(state))
                state = state.add(change, alpha=-1 / self.num_steps)
            yield step, state

    def batches(
        self, state: Tensor, numbers: range
    ) -> Iterator[Tuple[Steps, Tensor]]:
        """As ``stretch``, by as many steps as are visited as one batch."""
        for together in in_parts(numbers, batch_length(state, numbers)):
            steps = []
            for step, after in self.stretch(state, together):
                steps.append(step)
                state = after
            yield Steps(steps, self.recomputed), state

    def step(self, state: Tensor, i: int) -> Step:
        """Take the step i of ``countdown`` from a state."""
        inside, time = self.field.encoder.inside, self.times[-i]
        if i == self.num_steps and self.first is not None:
            inner = self.first
        elif self.with_cp:
            inner = checkpoint(inside, state, time, use_reentrant=False)
        else:
            inner = inside(state, time)
        inner = inner.to(state)
        return Step(self.field, self.source, inner, i / self.num_steps)

    def gather(
        self, visit: Visit, mean: bool = True, sections: bool = False
    ) -> Tuple[Sums, Optional[Tensor]]:
        """Average what is seen on the way; no step is kept.

        Args:
            visit (Callable): What of some steps is averaged over all steps,
                by name: its mean over those that it is given.
            mean (bool): Whether the mean of the estimates is wanted.
            sections (bool): Whether backward walks and visits once more:
                about sqrt(N) states are kept for it, and what lies between
                them is computed again (arXiv 1604.06174). Not for visits
                that change something.

        Returns:
            tuple: The means, and the mean of the estimates.
        """
        sections = sections and torch.is_grad_enabled()
        self.recomputed = sections
        length = self.num_steps
        if sections:
            length = math.isqrt(self.num_steps - 1) + 1
        total, state = {}, self.start
        for numbers in in_parts(self.numbers, length):
            if sections:
                sums, state = checkpoint(
                    self._visit_all,
                    state,
                    numbers,
                    visit,
                    mean,
                    use_reentrant=False,
                )
            else:
                sums, state = self._visit_all(state, numbers, visit, mean)
            add_to(total, sums)
        if mean and not self.ends_at_mean:
            state = self._leave(total.pop(INNER))
        means = {name: x / self.num_steps for name, x in total.items()}
        return means, state if mean else None

    def _visit_all(
        self, state: Tensor, numbers: range, visit: Visit, mean: bool
    ) -> Tuple[Sums, Tensor]:
        """Walk a part of the way, and visit its steps."""
        sums: Sums = {}
        for batch, after in self.batches(state, numbers):
            seen, state = visit(batch), after
            if len(batch) > 1:
                seen = {name: len(batch) * x for name, x in seen.items()}
            if mean and not self.ends_at_mean:
                seen = {**seen, INNER: batch.weighted(self.unit)}
            add_to(sums, seen)
        return sums, state

    @property
    def ends_at_mean(self) -> bool:
        """Whether the last state is the mean of the estimates.

        It is under a straight schedule; under the others Z_0 still holds
        some of the source and an error of the walk that changes with K,
        while the mean does not.
        """
        field = self.field
        return field.schedule.straight and not field.encoder.narrows

    def _leave(self, inner: Tensor) -> Tensor:
        """The mean of the estimates, of ``sum_i q_i h_i`` in units."""
        share = sum(
            [
                self.field.mixtures(i / self.num_steps)[1].source
                for i in self.numbers
            ]
        )
        left = self.field.encoder.leave(inner, self.source).to(self.source)
        n = self.num_steps
        return combine(share / n, self.source, self.unit / n, left)

    def mean(self) -> Tensor:
        """Walk, and return the mean of the estimates: what is deployed."""
        return self.gather(lambda step: {})[1]


class InterpolatedWalk(Walk):
    """Steps that start on the line from the source to a target.

    Args:
        field (VelocityField): What gives the velocity.
        source (Tensor): ``X_S = Z_1``.
        num_steps (int): N.
        target (Tensor): ``X_T = Z_0``, shape of ``source``.
        with_cp (bool): As `Walk`.

    Examples:
        >>> field = VelocityField(ConvEncoder(8), RectifiedFlow())
        >>> source, target = torch.randn(2, 1, 8, 5, 5).unbind()
        >>> len(list(InterpolatedWalk(field, source, 4, target)))
        4
    """

    ends_at_mean = False

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

    def stretch(
        self, state: Tensor, numbers: range
    ) -> Iterator[Tuple[Step, Tensor]]:
        for i in numbers:
            mixed = self.field.schedule.interpolate(
                self.source, self.target, i / self.num_steps
            )
            entered = self.field.encoder.enter(mixed).to(mixed)
            yield self.step(entered, i), state


def in_parts(numbers: range, length: int) -> List[range]:
    """Cut numbers into parts of some length, the last one of what is left."""
    starts = range(0, len(numbers), length)
    return [numbers[begin : begin + length] for begin in starts]


def batch_length(state: Tensor, numbers: range) -> int:
    """How many steps are visited as one batch.

    On a CPU one: what is of one step stays in its caches. Elsewhere all,
    which takes the fewest kernels.
    """
    return 1 if state.device.type == 'cpu' else len(numbers)


def add_to(sums: Sums, seen: Sums) -> None:
    """Add what is seen to sums, in place."""
    for name, x in seen.items():
        sums[name] = sums[name] + x if name in sums else x
