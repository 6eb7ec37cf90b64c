"""Noise schedules: how the state moves from the teacher to the student.

``Z_t = alpha_t Z_1 + sigma_t Z_0`` with the student's feature ``Z_1`` at
t = 1 and the teacher's ``Z_0`` at t = 0 (arXiv 2402.02012, section 3).
"""

from abc import ABCMeta, abstractmethod
from dataclasses import dataclass
from typing import Union

import torch
from torch import Tensor, nn

from mmfmkt.registry import MODELS

Time = Union[float, Tensor]


@dataclass
class SchedulePoint:
    """A noise schedule at one time; all four are 0-dim float64 tensors.

    Attributes:
        alpha (Tensor): Share of the source ``Z_1``.
        sigma (Tensor): Share of the target ``Z_0``.
        d_alpha (Tensor): Derivative of alpha in t.
        d_sigma (Tensor): Derivative of sigma in t.
    """
    alpha: Tensor
    sigma: Tensor
    d_alpha: Tensor
    d_sigma: Tensor


class NoiseSchedule(nn.Module, metaclass=ABCMeta):
    """Base of the schedules: a subclass says what ``point`` is."""

    def forward(self, t: Time) -> SchedulePoint:
        """Evaluate the schedule.

        Args:
            t (float | Tensor): Time in [0, 1]; 1 is the student's side.
        """
        return self.point(torch.as_tensor(t, dtype=torch.float64))

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
