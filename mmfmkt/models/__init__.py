"""Flows, metrics, the distillers that wire them to two networks, and the
CIFAR networks that MMPretrain lacks."""

from .backbones import *  # noqa: F401,F403
from .distillers import *  # noqa: F401,F403
from .flows import *  # noqa: F401,F403
from .losses import *  # noqa: F401,F403
