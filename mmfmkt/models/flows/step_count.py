"""How many steps the flow walks in an iteration of training."""

import random
from typing import Sequence, Union

import torch
from mmengine.logging import MessageHub
from torch import nn

from mmfmkt.utils import ConfigError


class StepCount(nn.Module):
    """A fixed N, or one drawn for each iteration (section 2, "Step count").

    In a Runner the draw is a function of the iteration alone: all ranks draw
    the same N without talking to each other (their seeds may differ), and a
    resumed run draws what the uninterrupted one would have drawn. Elsewhere
    PyTorch's own random state decides.

    Args:
        num_steps (int | Sequence[int]): N, or the values to draw from.

    Raises:
        ConfigError: If a value is not a positive integer.
    """

    def __init__(self, num_steps: Union[int, Sequence[int]]) -> None:
        super().__init__()
        choices = ((num_steps, ) if isinstance(num_steps, int) else
                   tuple(num_steps))
        if not choices or any(
                not isinstance(n, int) or n < 1 for n in choices):
            raise ConfigError(
                'flow.num_steps must be a positive integer or a list of '
                f'them to draw from, but got {num_steps!r}.')
        self.choices = choices

    def draw(self) -> int:
        """Return N for the present iteration."""
        if len(self.choices) == 1:
            return self.choices[0]
        iteration = MessageHub.get_current_instance().runtime_info.get('iter')
        if iteration is None:
            return self.choices[torch.randint(len(self.choices), ()).item()]
        return random.Random(iteration).choice(self.choices)
