"""Flows, metrics, and the distillers that wire them to two networks."""

from .distillers import *  # noqa: F401,F403
from .flows import *  # noqa: F401,F403
from .losses import *  # noqa: F401,F403
