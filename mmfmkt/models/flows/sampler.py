"""The walk of the state from the student's feature to the teacher's."""

from dataclasses import dataclass
from typing import Callable, List, Tuple

from torch import Tensor

Predict = Callable[[Tensor, float], Tuple[Tensor, Tensor]]


@dataclass
class Walk:
    """What a walk of N steps leaves behind.

    Attributes:
        velocities (list[Tensor]): The N velocities, from the step at t = 1
            to the step at t = 1/N.
        estimates (list[Tensor]): The N estimates of the target.
        final (Tensor): The state ``Z_0``.
    """

    velocities: List[Tensor]
    estimates: List[Tensor]
    final: Tensor

    @property
    def mean(self) -> Tensor:
        """The mean of the estimates; under rectified flow this is Z_0."""
        return sum(self.estimates) / len(self.estimates)


def euler_walk(predict: Predict, source: Tensor, num_steps: int) -> Walk:
    """Walk from t = 1 to t = 0 in equal Euler steps (section 2, Alg. 1).

    The walk follows its own trajectory: it never sees the target, which an
    interpolated state would leak.

    Args:
        predict (Callable): Velocity and estimate of the target, from a state
            and a time in (0, 1].
        source (Tensor): ``X_S = Z_1``, any shape.
        num_steps (int): N in training, K at inference.

    Raises:
        ValueError: If ``num_steps`` is not a positive integer.
    """
    if not isinstance(num_steps, int) or num_steps < 1:
        raise ValueError(
            f'A flow walks in 1 step or more (num_steps, '
            f'inference_steps), but got {num_steps!r}.'
        )
    walk = Walk([], [], source)
    for i in range(num_steps, 0, -1):
        velocity, estimate = predict(walk.final, i / num_steps)
        walk.velocities.append(velocity)
        walk.estimates.append(estimate)
        walk.final = walk.final - velocity / num_steps
    return walk
