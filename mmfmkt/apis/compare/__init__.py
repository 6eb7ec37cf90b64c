"""Comparison of methods over seeds.

All methods are trained and evaluated with the same seeds, each run in a
separate process. Differences between methods are paired by seed.
"""

from .checks import check_methods
from .composition import compose_methods
from .executor import Executor
from .plan import Comparison, Method, Run

__all__ = [
    'Comparison',
    'Executor',
    'Method',
    'Run',
    'check_methods',
    'compose_methods',
]
