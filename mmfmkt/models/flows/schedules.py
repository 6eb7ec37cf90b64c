"""Noise schedules: how the state moves from the teacher to the student.

``Z_t = alpha_t Z_1 + sigma_t Z_0`` with the student's feature ``Z_1`` at
t = 1 and the teacher's ``Z_0`` at t = 0 (arXiv 2402.02012, section 3).
"""

import math
from abc import ABCMeta, abstractmethod
from typing import NamedTuple

from torch import Tensor

from ..bounds import Positive


class SchedulePoint(NamedTuple):
    """A noise schedule at one time.

    Attributes:
        alpha (float): Share of the source ``Z_1``.
        sigma (float): Share of the target ``Z_0``.
        d_alpha (float): Derivative of alpha in t.
        d_sigma (float): Derivative of sigma in t.
    """

    alpha: float
    sigma: float
    d_alpha: float
    d_sigma: float


class NoiseSchedule(metaclass=ABCMeta):
    """Base of the schedules: a subclass says what ``point`` is.

    A schedule whose derivatives diverge at t = 1 sets ``last_time``: from
    there on they stay what they are at ``last_time``. Estimates remain exact
    under the oracle velocity, which has the same derivatives.

    Attributes:
        straight (bool): Whether the interpolant is a straight line at
            constant speed; the mean of a walk's estimates is then its final
            state.

    Examples:
        >>> RectifiedFlow()(0.25)
        SchedulePoint(alpha=0.25, sigma=0.75, d_alpha=1.0, d_sigma=-1.0)
    """

    last_time = 1.0
    straight = False

    def __call__(self, t: float) -> SchedulePoint:
        """Evaluate the schedule, derivatives at ``last_time`` at most.

        Args:
            t (float): Time in [0, 1]; 1 is the student's side.
        """
        at = self.point(t)
        if t <= self.last_time:
            return at
        edge = self.point(self.last_time)
        return at._replace(d_alpha=edge.d_alpha, d_sigma=edge.d_sigma)

    def check(self) -> None:
        """Insist that the flow begins at the source and has a target.

        Raises:
            ValueError: If alpha_1 is not 1, sigma_1 not 0, or a derivative
                of sigma, which estimates are divided by, not negative.
        """
        name, at = type(self).__name__, self(1.0)
        if abs(at.alpha - 1) > 1e-6 or abs(at.sigma) > 1e-6:
            raise ValueError(
                f'schedule {name} never reaches the source: at t = 1 '
                f'alpha is {at.alpha:g} and sigma {at.sigma:g}, '
                'expected 1 and 0.'
            )
        for t in (i / 64 for i in range(1, 65)):
            slope = self(t).d_sigma
            if not -math.inf < slope < 0:
                raise ValueError(
                    f'schedule {name} leads to no target: at t = {t:g} '
                    f'the derivative of sigma is {slope:g}, expected a '
                    'finite one below 0 (last_time keeps away from a pole).'
                )

    @abstractmethod
    def point(self, t: float) -> SchedulePoint:
        """Return alpha, sigma and their derivatives at ``t``."""

    def velocity(self, source: Tensor, target: Tensor, t: float) -> Tensor:
        """The velocity of the interpolant, ``alpha'_t Z_1 + sigma'_t Z_0``.

        Args:
            source (Tensor): ``Z_1``, any shape.
            target (Tensor): ``Z_0``, the same shape.
            t (float): Time in [0, 1].
        """
        at = self(t)
        return combine(at.d_alpha, source, at.d_sigma, target)

    def interpolate(self, source: Tensor, target: Tensor, t: float) -> Tensor:
        """The interpolant ``Z_t``; arguments as ``velocity``."""
        at = self(t)
        return combine(at.alpha, source, at.sigma, target)


def combine(a: float, x: Tensor, b: float, y: Tensor) -> Tensor:
    """``a x + b y`` in as few passes over memory as the factors allow.

    Args:
        a (float): Factor of ``x``; with 0, gradients do not reach ``x``.
        x (Tensor): Any shape.
        b (float): Factor of ``y``, not 0.
        y (Tensor): Shape of ``x``.
    """
    if a == 0:
        return y if b == 1 else b * y
    if a == 1:
        return x - y if b == -1 else x.add(y, alpha=b)
    return y.add(x, alpha=a) if b == 1 else (a * x).add(y, alpha=b)


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
    """What the variance-preserving schedules share.

    ``alpha = exp(-a (1 - t)^2 / 4 - b (1 - t) / 2)``, Song et al. (arXiv
    2011.13456), appendix C, with time running the other way.

    Args:
        a (float): Twice the slope of the noise rate.
        b (float): Noise rate at t = 1.

    Raises:
        ValueError: If ``a`` or ``b`` is not positive.
    """

    def __init__(self, a: Positive = 19.9, b: Positive = 0.1) -> None:
        if a <= 0 or b <= 0:
            raise ValueError(
                f'{type(self).__name__} takes positive a and b, but got '
                f'{a!r} and {b!r}.'
            )
        self.a, self.b = a, b

    def log_alpha(self, t: float) -> float:
        """Return the logarithm of alpha."""
        return -self.a * (1 - t) ** 2 / 4 - self.b * (1 - t) / 2

    def d_alpha(self, t: float) -> float:
        """Return the derivative of alpha."""
        slope = self.a * (1 - t) / 2 + self.b / 2
        return slope * math.exp(self.log_alpha(t))


class VPODE(VPBase):
    """Variance preserving: ``sigma = sqrt(1 - alpha^2)``.

    The derivative of sigma has a pole at t = 1 and is taken at 1 - 1e-3 from
    there on. Arguments as `VPBase`.

    Examples:
        >>> at = VPODE()(0.5)
        >>> round(at.alpha ** 2 + at.sigma ** 2, 6)
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
    """Below the variance of VP: ``sigma = 1 - alpha^2``.

    Arguments as `VPBase`.

    Examples:
        >>> at = SubVPODE()(0.5)
        >>> round(at.alpha ** 2 + at.sigma, 6)
        1.0
    """

    def point(self, t: float) -> SchedulePoint:
        log_alpha, d_alpha = self.log_alpha(t), self.d_alpha(t)
        alpha, sigma = math.exp(log_alpha), -math.expm1(2 * log_alpha)
        return SchedulePoint(alpha, sigma, d_alpha, -2 * alpha * d_alpha)


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
        ValueError: If not 0 < sigma_min < sigma_max.

    Examples:
        >>> at = VEODE(sigma_max=1.0)(0.0)
        >>> at.alpha, round(at.sigma, 3)
        (1.0, 1.0)
    """

    last_time = 1 - 1e-3

    def __init__(
        self, sigma_min: Positive = 0.01, sigma_max: Positive = 1.0
    ) -> None:
        if not 0 < sigma_min < sigma_max:
            raise ValueError(
                'VEODE needs 0 < sigma_min < sigma_max, but got '
                f'{sigma_min!r} and {sigma_max!r}.'
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
