"""Hooks, loops, log processors and optimizer wrappers."""

from .hooks import *  # noqa: F401,F403
from .logging import *  # noqa: F401,F403
from .optim_wrappers import *  # noqa: F401,F403
from .resume import *  # noqa: F401,F403
