"""The walk of the state from the student's feature to the teacher's."""

from dataclasses import dataclass
from typing import Callable, List

from torch import Tensor

from .schedules import NoiseSchedule


@dataclass
class Walk:
    """What a walk of N steps leaves behind.

    Attributes:
        estimates (list[Tensor]): The N estimates of the target, from the
            step at t = 1 to the step at t = 1/N.
        final (Tensor): The state ``Z_0``.
    """
    estimates: List[Tensor]
    final: Tensor


def euler_walk(velocity: Callable[[Tensor, float], Tensor], source: Tensor,
               schedule: NoiseSchedule, num_steps: int) -> Walk:
    """Walk from t = 1 to t = 0 in equal Euler steps (section 2, Alg. 1).

    The walk follows its own trajectory: it never sees the target, which an
    interpolated state would leak.

    Args:
        velocity (Callable): g(Z_t, t), from a state and a time in (0, 1].
        source (Tensor): ``X_S = Z_1``, any shape.
        schedule (NoiseSchedule): Turns velocities into estimates.
        num_steps (int): N in training, K at inference.

    Raises:
        ValueError: If ``num_steps`` is not a positive integer.
    """
    if not isinstance(num_steps, int) or num_steps < 1:
        raise ValueError(f'A flow walks in 1 step or more (num_steps, '
                         f'inference_steps), but got {num_steps!r}.')
    state, estimates = source, []
    for i in range(num_steps, 0, -1):
        t = i / num_steps
        v = velocity(state, t)
        estimates.append(schedule.estimate(source, v, t))
        state = state - v / num_steps
    return Walk(estimates, state)
