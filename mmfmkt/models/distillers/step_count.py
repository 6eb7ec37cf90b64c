"""Number of Euler steps of the flow in a training iteration."""

import random
from typing import Any, Optional, Sequence, Tuple, Union

import torch
from mmengine.logging import MessageHub

from mmfmkt.utils import ConfigError


class StepCount:
    """Number of Euler steps N, fixed or drawn in each iteration.

    In a Runner, N depends on the iteration alone: all ranks draw the same N
    without communication, regardless of their seeds, and a resumed run draws
    the same N as an uninterrupted one. Without a Runner, PyTorch's global
    random state determines N.

    Args:
        num_steps (int | Sequence[int]): N, or the values to draw from.

    Attributes:
        limit (int, optional): Current upper limit of N, which
            StepCountWarmupHook raises during training.

    Raises:
        ConfigError: If a value is not a positive integer.

    Examples:
        >>> StepCount(8).draw()
        8
        >>> StepCount((1, 2, 4)).draw() in (1, 2, 4)
        True
    """

    def __init__(self, num_steps: Union[int, Sequence[int]]) -> None:
        is_fixed = isinstance(num_steps, int)
        self.choices = (num_steps,) if is_fixed else tuple(num_steps)
        if min(self.choices, default=0) < 1:
            raise ConfigError(
                'model.flow.num_steps must be a positive integer or a '
                f'sequence of them, got {num_steps!r}.'
            )
        # torch.compile cannot trace Python's generator. Importing the
        # compiler takes seconds, which a fixed N does not need.
        self._draw = draw_from
        if len(self.choices) > 1:
            self._draw = torch.compiler.disable(draw_from)
        self.limit: Optional[int] = None

    def __reduce__(self) -> Tuple[Any, ...]:
        # A function that torch.compile skips cannot be pickled.
        return type(self), (self.choices,), dict(limit=self.limit)

    def draw(self) -> int:
        """Return N of the current iteration."""
        choices = self.choices
        if self.limit is not None:
            choices = [n for n in choices if n <= self.limit] or [self.limit]
        return choices[0] if len(choices) == 1 else self._draw(choices)


def draw_from(choices: Sequence[int]) -> int:
    """Draw N for the current iteration.

    Args:
        choices (Sequence[int]): Values of N.
    """
    iteration = MessageHub.get_current_instance().runtime_info.get('iter')
    if iteration is None:
        return choices[torch.randint(len(choices), ()).item()]
    return random.Random(iteration).choice(choices)
