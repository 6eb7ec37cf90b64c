"""Number of Euler steps of the flow in a training iteration."""

import random
from typing import Optional, Sequence, Union

import torch
from mmengine.logging import MessageHub

from mmfmkt.utils import ConfigError


class StepCount:
    """A fixed N, or one drawn in each iteration (section 2, "Step count").

    In a Runner N depends on the iteration alone: all ranks draw the same N
    without communication (their seeds may differ), and a resumed run draws
    the N of an uninterrupted one. Elsewhere PyTorch's random state decides.

    Args:
        num_steps (int | Sequence[int]): N, or the values to draw from.

    Attributes:
        limit (int, optional): Present maximum of N, which StepCountWarmupHook
            raises during training.

    Raises:
        ConfigError: If a value is not a positive integer.

    Examples:
        >>> StepCount(8).draw()
        8
        >>> StepCount((1, 2, 4)).draw() in (1, 2, 4)
        True
    """

    def __init__(self, num_steps: Union[int, Sequence[int]]) -> None:
        single = isinstance(num_steps, int)
        self.choices = (num_steps,) if single else tuple(num_steps)
        if min(self.choices, default=0) < 1:
            raise ConfigError(
                'model.flow.num_steps must be a positive integer or a '
                f'sequence of them, got {num_steps!r}.'
            )
        # torch.compile cannot trace Python's generator; importing it takes
        # seconds, which are not needed for a fixed N.
        self._draw = draw_from
        if len(self.choices) > 1:
            self._draw = torch.compiler.disable(draw_from)
        self.limit: Optional[int] = None

    def draw(self) -> int:
        """Return N of this iteration."""
        choices = self.choices
        if self.limit is not None:
            choices = [n for n in choices if n <= self.limit] or [self.limit]
        return choices[0] if len(choices) == 1 else self._draw(choices)


def draw_from(choices: Sequence[int]) -> int:
    """Draw a number for this iteration.

    Args:
        choices (Sequence[int]): Numbers to draw from.
    """
    iteration = MessageHub.get_current_instance().runtime_info.get('iter')
    if iteration is None:
        return choices[torch.randint(len(choices), ()).item()]
    return random.Random(iteration).choice(choices)
