"""How many steps the flow walks in an iteration of training."""

import random
from typing import Optional, Sequence, Union

import torch
from mmengine.logging import MessageHub

from mmfmkt.utils import ConfigError


class StepCount:
    """A fixed N, or one drawn for each iteration (section 2, "Step count").

    In a Runner the draw is a function of the iteration alone: all ranks draw
    the same N without talking to each other (their seeds may differ), and a
    resumed run draws what the uninterrupted one would have drawn. Elsewhere
    PyTorch's own random state decides.

    Args:
        num_steps (int | Sequence[int]): N, or the values to draw from.

    Attributes:
        limit (int, optional): Most steps to walk for now; StepCountWarmupHook
            raises it in the course of training.

    Raises:
        ConfigError: If a value is not a positive integer.

    Examples:
        >>> StepCount(8).draw()
        8
        >>> StepCount((1, 2, 4)).draw() in (1, 2, 4)
        True
    """

    def __init__(self, num_steps: Union[int, Sequence[int]]) -> None:
        choices = (
            (num_steps,) if isinstance(num_steps, int) else tuple(num_steps)
        )
        if not choices or any(
            not isinstance(n, int) or n < 1 for n in choices
        ):
            raise ConfigError(
                'model.flow.num_steps must be a positive integer or a list '
                f'of them to draw from, but got {num_steps!r}.'
            )
        self.choices = choices
        # torch.compile cannot trace Python's generator; importing it takes
        # seconds, which a fixed N need not wait for.
        self._draw = draw_from
        if len(choices) > 1:
            self._draw = torch.compiler.disable(draw_from)
        self.limit: Optional[int] = None

    def draw(self) -> int:
        """Return N for the present iteration."""
        choices = self.choices
        if self.limit is not None:
            choices = [n for n in choices if n <= self.limit] or [self.limit]
        return choices[0] if len(choices) == 1 else self._draw(choices)


def draw_from(choices: Sequence[int]) -> int:
    """Draw a number for the present iteration.

    Args:
        choices (Sequence[int]): The numbers to draw from.
    """
    iteration = MessageHub.get_current_instance().runtime_info.get('iter')
    if iteration is None:
        return choices[torch.randint(len(choices), ()).item()]
    return random.Random(iteration).choice(choices)
