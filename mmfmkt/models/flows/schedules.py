"""Noise schedules: how the state moves from the teacher to the student.

``Z_t = alpha_t Z_1 + sigma_t Z_0`` with the student's feature ``Z_1`` at
t = 1 and the teacher's ``Z_0`` at t = 0 (arXiv 2402.02012, section 3).
"""

import math
from abc import ABCMeta, abstractmethod
from dataclasses import dataclass, fields
from typing import Dict, Union

import torch
from torch import Tensor, nn

from mmfmkt.registry import MODELS
from mmfmkt.utils import ConfigError

Time = Union[float, Tensor]


@dataclass
class SchedulePoint:
    """A noise schedule at one time, in floats or 0-dim float64 tensors.

    Attributes:
        alpha (float | Tensor): Share of the source ``Z_1``.
        sigma (float | Tensor): Share of the target ``Z_0``.
        d_alpha (float | Tensor): Derivative of alpha in t.
        d_sigma (float | Tensor): Derivative of sigma in t.
    """

    alpha: Time
    sigma: Time
    d_alpha: Time
    d_sigma: Time


class NoiseSchedule(nn.Module, metaclass=ABCMeta):
    """Base of the schedules: a subclass says what ``point`` is.

    A schedule whose derivatives diverge at t = 1 sets ``last_time``: from
    there on they stay what they are at ``last_time``. Estimates remain exact
    under the oracle velocity, which has the same derivatives.
    """

    last_time = 1.0

    def __init__(self) -> None:
        super().__init__()
        self._known: Dict[float, SchedulePoint] = {}

    def forward(self, t: Time) -> SchedulePoint:
        """Evaluate the schedule, derivatives at ``last_time`` at most.

        Args:
            t (float | Tensor): Time in [0, 1]; 1 is the student's side.

        Returns:
            SchedulePoint: In what ``t`` is given in. A walk comes by the
            same times again and again: floats are computed once.
        """
        if isinstance(t, Tensor):
            return self._evaluate(t)
        if t not in self._known:
            at = self._evaluate(torch.tensor(t, dtype=torch.float64))
            self._known[t] = SchedulePoint(
                *(float(getattr(at, field.name)) for field in fields(at))
            )
        return self._known[t]

    def _evaluate(self, t: Tensor) -> SchedulePoint:
        at = self.point(t)
        if t > self.last_time:
            edge = self.point(torch.full_like(t, self.last_time))
            at = SchedulePoint(at.alpha, at.sigma, edge.d_alpha, edge.d_sigma)
        return at

    def check(self) -> None:
        """Insist that the flow begins at the source and has a target.

        Raises:
            ConfigError: If alpha_1 is not 1, sigma_1 not 0, or a derivative
                of sigma, which estimates are divided by, not negative.
        """
        name, at = type(self).__name__, self(1.0)
        if abs(at.alpha - 1) > 1e-6 or abs(at.sigma) > 1e-6:
            raise ConfigError(
                f'model.flow.schedule {name} never reaches the source: at '
                f't = 1 alpha is {at.alpha:g} and sigma {at.sigma:g}, '
                'expected 1 and 0.'
            )
        for t in torch.linspace(1 / 64, 1, 64):
            slope = self(t).d_sigma
            if not slope.isfinite() or slope >= 0:
                raise ConfigError(
                    f'model.flow.schedule {name} leads to no target: at t = '
                    f'{t:g} the derivative of sigma is {slope:g}, expected a '
                    'finite one below 0 (last_time keeps away from a pole).'
                )

    @abstractmethod
    def point(self, t: Tensor) -> SchedulePoint:
        """Return alpha, sigma and their derivatives at ``t`` (0-dim)."""

    def velocity(self, source: Tensor, target: Tensor, t: Time) -> Tensor:
        """The velocity of the interpolant, ``alpha'_t Z_1 + sigma'_t Z_0``.

        Args:
            source (Tensor): ``Z_1``, any shape.
            target (Tensor): ``Z_0``, the same shape.
            t (float | Tensor): Time in [0, 1].
        """
        at = self(t)
        return at.d_alpha * source + at.d_sigma * target

    def estimate(self, source: Tensor, velocity: Tensor, t: Time) -> Tensor:
        """The target that a velocity points at, given the source.

        ``X_hat = (alpha'_t X_S - v) / (-sigma'_t)``, section 2 of the method.

        Args:
            source (Tensor): ``X_S``, any shape.
            velocity (Tensor): v, the same shape.
            t (float | Tensor): Time in [0, 1].
        """
        at = self(t)
        return (at.d_alpha * source - velocity) / -at.d_sigma


@MODELS.register_module()
class RectifiedFlow(NoiseSchedule):
    """Straight lines: alpha = t, sigma = 1 - t, so ``X_hat = X_S - v``."""

    def point(self, t: Tensor) -> SchedulePoint:
        one = torch.ones_like(t)
        return SchedulePoint(t, 1 - t, one, -one)


class VPBase(NoiseSchedule):
    """What the variance-preserving schedules share.

    ``alpha = exp(-a (1 - t)^2 / 4 - b (1 - t) / 2)``, Song et al. (arXiv
    2011.13456), appendix C, with time running the other way.

    Args:
        a (float): Twice the slope of the noise rate.
        b (float): Noise rate at t = 1.

    Raises:
        ConfigError: If ``a`` or ``b`` is not positive.
    """

    def __init__(self, a: float = 19.9, b: float = 0.1) -> None:
        super().__init__()
        if a <= 0 or b <= 0:
            raise ConfigError(
                f'model.flow.schedule {type(self).__name__} takes positive a '
                f'and b, but got {a!r} and {b!r}.'
            )
        self.a, self.b = a, b

    def log_alpha(self, t: Tensor) -> Tensor:
        """Return the logarithm of alpha."""
        return -self.a * (1 - t) ** 2 / 4 - self.b * (1 - t) / 2

    def d_alpha(self, t: Tensor) -> Tensor:
        """Return the derivative of alpha."""
        slope = self.a * (1 - t) / 2 + self.b / 2
        return slope * self.log_alpha(t).exp()


@MODELS.register_module()
class VPODE(VPBase):
    """Variance preserving: ``sigma = sqrt(1 - alpha^2)``.

    The derivative of sigma has a pole at t = 1 and is taken at 1 - 1e-3 from
    there on. Arguments as :class:`VPBase`.
    """

    last_time = 1 - 1e-3

    def point(self, t: Tensor) -> SchedulePoint:
        log_alpha, d_alpha = self.log_alpha(t), self.d_alpha(t)
        alpha, sigma = log_alpha.exp(), (-(2 * log_alpha).expm1()).sqrt()
        return SchedulePoint(alpha, sigma, d_alpha, -alpha * d_alpha / sigma)


@MODELS.register_module()
class SubVPODE(VPBase):
    """Below the variance of VP: ``sigma = 1 - alpha^2``.

    Arguments as :class:`VPBase`.
    """

    def point(self, t: Tensor) -> SchedulePoint:
        log_alpha, d_alpha = self.log_alpha(t), self.d_alpha(t)
        alpha, sigma = log_alpha.exp(), -(2 * log_alpha).expm1()
        return SchedulePoint(alpha, sigma, d_alpha, -2 * alpha * d_alpha)


@MODELS.register_module()
class VEODE(NoiseSchedule):
    """Variance exploding: the source stays, the target comes on top.

    ``alpha = 1``, ``sigma = sigma_min sqrt(r^(2 (1 - t)) - 1)`` with r =
    sigma_max / sigma_min, so ``X_hat = v / sigma'``. The derivative of sigma
    has a pole at t = 1 and is taken at 1 - 1e-3 from there on.

    The usual range for images, up to 50, drowns a signal in noise. Here
    sigma weighs the teacher's feature, and a sigma_max of 1 has it arrive
    with its own scale: ``Z_0 = X_S + X_T``, to 5e-5.

    Args:
        sigma_min (float): Lower end of the range.
        sigma_max (float): Upper end, about sigma at t = 0.

    Raises:
        ConfigError: If not 0 < sigma_min < sigma_max.
    """

    last_time = 1 - 1e-3

    def __init__(
        self, sigma_min: float = 0.01, sigma_max: float = 1.0
    ) -> None:
        super().__init__()
        if not 0 < sigma_min < sigma_max:
            raise ConfigError(
                'model.flow.schedule VEODE needs 0 < sigma_min < sigma_max, '
                f'but got {sigma_min!r} and {sigma_max!r}.'
            )
        self.sigma_min = sigma_min
        self.log_ratio = math.log(sigma_max / sigma_min)

    def point(self, t: Tensor) -> SchedulePoint:
        exponent = 2 * (1 - t) * self.log_ratio
        root = exponent.expm1().sqrt()
        slope = -self.log_ratio * exponent.exp() / root
        return SchedulePoint(
            torch.ones_like(t),
            self.sigma_min * root,
            torch.zeros_like(t),
            self.sigma_min * slope,
        )
