"""Noise schedules: interpolants between teacher and student.

``Z_t = alpha_t Z_1 + sigma_t Z_0`` with the student's feature ``Z_1`` at
t = 1 and the teacher's ``Z_0`` at t = 0 (arXiv 2402.02012, section 3).
"""

import math
from abc import ABCMeta, abstractmethod
from typing import NamedTuple

from torch import Tensor

from ..bounds import Positive
from ..tensor_ops import linear_combination


class SchedulePoint(NamedTuple):
    """Values of a noise schedule at one time.

    Attributes:
        alpha (float): Coefficient of the source ``Z_1``.
        sigma (float): Coefficient of the target ``Z_0``.
        d_alpha (float): Derivative of alpha with respect to t.
        d_sigma (float): Derivative of sigma with respect to t.
    """

    alpha: float
    sigma: float
    d_alpha: float
    d_sigma: float


class NoiseSchedule(metaclass=ABCMeta):
    """Base class of the schedules; a subclass implements ``point``.

    A schedule whose derivatives diverge at t = 1 sets ``last_time``: at later
    times, the derivatives at ``last_time`` are used. The velocity of the
    interpolant uses the same derivatives, so a flow with this velocity still
    has exact estimates.

    Attributes:
        last_time (float): Last time at which derivatives are evaluated.
        straight (bool): Whether the interpolant is a straight line at
            constant speed. The mean of the estimates is then the final
            state.

    Examples:
        >>> RectifiedFlow()(0.25)
        SchedulePoint(alpha=0.25, sigma=0.75, d_alpha=1.0, d_sigma=-1.0)
    """

    last_time = 1.0
    straight = False

    def __call__(self, t: float) -> SchedulePoint:
        """Evaluate the schedule, with derivatives up to ``last_time``.

        Args:
            t (float): Time in [0, 1]; t = 1 is the student's feature.
        """
        point = self.point(t)
        if t <= self.last_time:
            return point
        last = self.point(self.last_time)
        return point._replace(d_alpha=last.d_alpha, d_sigma=last.d_sigma)

    def check(self) -> None:
        """Check alpha and sigma at t = 1 and the derivative of sigma.

        Raises:
            ValueError: If alpha is not 1 or sigma is not 0 at t = 1, so that
                the flow does not start at the source, or if the derivative of
                sigma, by which estimates are divided, is not negative.
        """
        name, point = type(self).__name__, self(1.0)
        if abs(point.alpha - 1) > 1e-6 or abs(point.sigma) > 1e-6:
            raise ValueError(
                f'schedule {name} must have alpha 1 and sigma 0 at t = 1, '
                f'got {point.alpha:g} and {point.sigma:g}.'
            )
        for t in (i / 64 for i in range(1, 65)):
            slope = self(t).d_sigma
            if not -math.inf < slope < 0:
                raise ValueError(
                    f'schedule {name} must have a finite derivative of sigma '
                    f'below 0, got {slope:g} at t = {t:g}; if the derivative '
                    'diverges at t = 1, set last_time below 1.'
                )

    @abstractmethod
    def point(self, t: float) -> SchedulePoint:
        """Return alpha, sigma and their derivatives at ``t``."""

    def velocity(self, source: Tensor, target: Tensor, t: float) -> Tensor:
        """Return the interpolant's velocity, ``alpha'_t Z_1 + sigma'_t Z_0``.

        Args:
            source (Tensor): ``Z_1``, any shape.
            target (Tensor): ``Z_0``, the same shape.
            t (float): Time in [0, 1].
        """
        point = self(t)
        return linear_combination(point.d_alpha, source, point.d_sigma, target)

    def interpolate(self, source: Tensor, target: Tensor, t: float) -> Tensor:
        """Return the interpolant ``Z_t``; arguments as ``velocity``."""
        point = self(t)
        return linear_combination(point.alpha, source, point.sigma, target)


class RectifiedFlow(NoiseSchedule):
    """Straight lines: alpha = t, sigma = 1 - t, so ``X_hat = X_S - v``.

    Examples:
        >>> RectifiedFlow()(0.25)
        SchedulePoint(alpha=0.25, sigma=0.75, d_alpha=1.0, d_sigma=-1.0)
    """

    straight = True

    def point(self, t: float) -> SchedulePoint:
        return SchedulePoint(t, 1 - t, 1.0, -1.0)


class VPBase(NoiseSchedule):
    """Base class of the variance-preserving schedules.

    ``alpha = exp(-a (1 - t)^2 / 4 - b (1 - t) / 2)``, Song et al. (arXiv
    2011.13456), appendix C, with reversed time.

    Args:
        a (float): Increase of the noise rate from t = 1 to t = 0; the noise
            rate is a (1 - t) + b.
        b (float): Noise rate at t = 1.
    """

    def __init__(self, a: Positive = 19.9, b: Positive = 0.1) -> None:
        self.a, self.b = a, b

    def log_alpha(self, t: float) -> float:
        """Return the logarithm of alpha."""
        return -self.a * (1 - t) ** 2 / 4 - self.b * (1 - t) / 2

    def d_alpha(self, t: float) -> float:
        """Return the derivative of alpha."""
        slope = self.a * (1 - t) / 2 + self.b / 2
        return slope * math.exp(self.log_alpha(t))


class VPODE(VPBase):
    """Variance preserving: ``alpha = exp(-a (1 - t)^2 / 4 - b (1 - t) / 2)``,
    ``sigma = sqrt(1 - alpha^2)``.

    The derivative of sigma has a pole at t = 1; after t = 1 - 1e-3 it is
    constant. Arguments as `VPBase`.

    Examples:
        >>> point = VPODE()(0.5)
        >>> round(point.alpha ** 2 + point.sigma ** 2, 6)
        1.0
    """

    last_time = 1 - 1e-3

    def point(self, t: float) -> SchedulePoint:
        log_alpha, d_alpha = self.log_alpha(t), self.d_alpha(t)
        alpha = math.exp(log_alpha)
        sigma = math.sqrt(-math.expm1(2 * log_alpha))
        slope = -alpha * d_alpha / sigma if sigma else -math.inf
        return SchedulePoint(alpha, sigma, d_alpha, slope)


class SubVPODE(VPBase):
    """Sub-variance-preserving: alpha as in `VPODE`, ``sigma = 1 - alpha^2``.

    Arguments as `VPBase`.

    Examples:
        >>> point = SubVPODE()(0.5)
        >>> round(point.alpha ** 2 + point.sigma, 6)
        1.0
    """

    def point(self, t: float) -> SchedulePoint:
        log_alpha, d_alpha = self.log_alpha(t), self.d_alpha(t)
        alpha, sigma = math.exp(log_alpha), -math.expm1(2 * log_alpha)
        return SchedulePoint(alpha, sigma, d_alpha, -2 * alpha * d_alpha)


class VEODE(NoiseSchedule):
    """Variance exploding: ``alpha = 1``,
    ``sigma = sigma_min sqrt(r^(2 (1 - t)) - 1)`` with r =
    sigma_max / sigma_min.

    The target is added to a constant source, so ``X_hat = v / sigma'``.
    The derivative of sigma has a pole at t = 1; after t = 1 - 1e-3 it is
    constant.

    In image generation, sigma is the scale of the noise and sigma_max is up
    to 50. Here sigma is the coefficient of the teacher's feature, and
    sigma_max = 1 keeps the feature's scale: ``Z_0 = X_S + X_T`` up to a
    relative error of 5e-5.

    Args:
        sigma_min (float): Factor of sigma; sigma is 0 at t = 1 for any
            value.
        sigma_max (float): Value of sigma at t = 0, up to a relative error of
            (sigma_min / sigma_max)^2 / 2.

    Raises:
        ValueError: If not 0 < sigma_min < sigma_max.

    Examples:
        >>> point = VEODE(sigma_max=1.0)(0.0)
        >>> point.alpha, round(point.sigma, 3)
        (1.0, 1.0)
    """

    last_time = 1 - 1e-3

    def __init__(
        self, sigma_min: Positive = 0.01, sigma_max: Positive = 1.0
    ) -> None:
        if not 0 < sigma_min < sigma_max:
            raise ValueError(
                'sigma_min of VEODE must be above 0 and below sigma_max, got '
                f'sigma_min {sigma_min!r} and sigma_max {sigma_max!r}.'
            )
        self.sigma_min = sigma_min
        self.log_ratio = math.log(sigma_max / sigma_min)

    def point(self, t: float) -> SchedulePoint:
        exponent = 2 * (1 - t) * self.log_ratio
        root = math.sqrt(math.expm1(exponent))
        slope = -math.inf
        if root:
            slope = (
                -self.sigma_min * self.log_ratio * math.exp(exponent) / root
            )
        return SchedulePoint(1.0, self.sigma_min * root, 0.0, slope)
