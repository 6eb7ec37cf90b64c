"""Steps of a walk: velocities, and the targets that they point at."""

from contextlib import nullcontext
from typing import ContextManager, List, Sequence, Union

import torch
from torch import Tensor

from .encoders.layers import compiling
from .velocity import VelocityField


class Step:
    """One step of a walk; what is not asked for is not computed.

    Args:
        field (VelocityField): What is walked.
        source (Tensor): ``X_S``, float32 or better.
        inner (Tensor): What the encoder has inside, before it leaves.
        t (float): Time at its start, in (0, 1].

    Attributes:
        velocity (Tensor): v(Z_t, t), shape of ``source``.
        estimate (Tensor): The target that it points at, shape of ``source``.

    Examples:
        >>> field = VelocityField(ConvEncoder(8), RectifiedFlow())
        >>> source = torch.randn(1, 8, 5, 5)
        >>> (time,) = field.encoder.embed([1.0])
        >>> step = Step(field, source, field.encoder.inside(source, time), 1.0)
        >>> torch.equal(step.estimate, source - step.velocity)
        True
    """

    def __init__(
        self, field: VelocityField, source: Tensor, inner: Tensor, t: float
    ) -> None:
        self.field, self.source, self.inner, self.t = field, source, inner, t
        self.mixtures = field.mixtures(t)

    @property
    def given(self) -> Tensor:
        """What the encoder gives."""
        left = self.field.encoder.leave(self.inner, self.source)
        return left.to(self.source)

    def weighted(self, unit: float) -> Tensor:
        """Its share in the mean of the estimates, ``q h``, in units of q."""
        factor = self.mixtures[1].given / unit
        return self.inner if factor == 1 else factor * self.inner

    @property
    def velocity(self) -> Tensor:
        return self.mixtures[0].of(self.source, self.given)

    @property
    def estimate(self) -> Tensor:
        return self.mixtures[1].of(self.source, self.given)


class Steps:
    """Steps of a walk as one batch, with a leading dimension of steps.

    Only what is inside the encoder has to be computed step by step.

    Args:
        steps (Sequence[Step]): One or more, of one walk.
        recomputed (bool): Whether backward computes them once more, so that
            nothing is to be kept of them.

    Examples:
        >>> field = VelocityField(ConvEncoder(8), RectifiedFlow())
        >>> walk = Walk(field, torch.randn(2, 8, 5, 5), num_steps=4)
        >>> Steps(list(walk)).estimate.shape
        torch.Size([4, 2, 8, 5, 5])
    """

    def __init__(
        self, steps: Sequence[Step], recomputed: bool = False
    ) -> None:
        self.steps, self.recomputed = steps, recomputed
        self.field, self.source = steps[0].field, steps[0].source
        # What the encoder has inside, one step behind the other.
        self.inner = steps[0].inner
        if len(steps) > 1:
            self.inner = torch.cat([step.inner for step in steps])

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def given(self) -> Tensor:
        """What the encoder gives."""
        with self._kept_once():
            left = self.field.encoder.leave(self.inner, self.source)
        return left.to(self.source).unflatten(0, (len(self), -1))

    @property
    def velocity(self) -> Tensor:
        """Velocities, ``(steps, *source.shape)``."""
        return self._mixed(0)

    @property
    def estimate(self) -> Tensor:
        """Estimates of the target, ``(steps, *source.shape)``."""
        return self._mixed(1)

    def weighted(self, unit: float) -> Tensor:
        """Their share in the sum of the estimates, as `Step.weighted`."""
        if len(self) == 1:
            return self.steps[0].weighted(unit)
        if {step.mixtures[1].given for step in self.steps} == {unit}:
            return self.inner.unflatten(0, (len(self), -1)).sum(0)
        return sum(step.weighted(unit) for step in self.steps)

    def _mixed(self, which: int) -> Tensor:
        if len(self) == 1:
            (step,) = self.steps
            return (step.estimate if which else step.velocity)[None]
        given = self.given
        mixtures = [step.mixtures[which] for step in self.steps]
        if len(set(mixtures)) == 1:
            return mixtures[0].of(self.source, given)
        return torch.stack(
            [mix.of(self.source, x) for mix, x in zip(mixtures, given)]
        )

    def _kept_once(self) -> ContextManager:
        """Have backward put ``inner`` together anew from its parts.

        The walk keeps these for backward anyway, ``leave`` would keep the
        whole as well.
        """
        narrows = self.field.encoder.narrows
        if not narrows or self.recomputed or compiling():
            return nullcontext()
        whole, parts = self.inner, [step.inner for step in self.steps]

        def pack(x: Tensor) -> Union[Tensor, List[Tensor]]:
            return parts if x is whole else x

        def unpack(x: Union[Tensor, List[Tensor]]) -> Tensor:
            return torch.cat(x) if isinstance(x, list) else x

        return torch.autograd.graph.saved_tensors_hooks(pack, unpack)
