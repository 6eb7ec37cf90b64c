"""Registries of scope ``mmfmkt``, children of MMEngine's roots.

A config names what they hold as ``mmfmkt.Name``; inside ``model.flow`` the
prefix may be left out.
"""

from typing import Any

from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import LOOPS as MMENGINE_LOOPS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS
from mmengine.registry import Registry

from mmfmkt.utils import ConfigError

MODELS = Registry(
    'model',
    parent=MMENGINE_MODELS,
    scope='mmfmkt',
    locations=['mmfmkt.models'],
)
HOOKS = Registry(
    'hook', parent=MMENGINE_HOOKS, scope='mmfmkt', locations=['mmfmkt.engine']
)
LOOPS = Registry(
    'loop', parent=MMENGINE_LOOPS, scope='mmfmkt', locations=['mmfmkt.engine']
)
METRICS = Registry(
    'metric',
    parent=MMENGINE_METRICS,
    scope='mmfmkt',
    locations=['mmfmkt.evaluation'],
)
OPTIM_WRAPPERS = Registry(
    'optimizer wrapper',
    parent=MMENGINE_OPTIM_WRAPPERS,
    scope='mmfmkt',
    locations=['mmfmkt.engine'],
)


def build_part(cfg: Any, **defaults) -> Any:
    """Build a part of a flow, whatever the default scope of the run is.

    Args:
        cfg (dict | Any): Config with ``type``, or a built part.
        defaults: Arguments that ``cfg`` may override.

    Raises:
        ConfigError: If there is no such part, or not with such arguments.
    """
    if not isinstance(cfg, dict):
        return cfg
    try:
        return MODELS.build({**defaults, **cfg, '_scope_': 'mmfmkt'})
    except KeyError as error:
        raise ConfigError(
            f'model.flow: there is no part {cfg.get("type")!r}; it is '
            'misspelt, or its module is not in custom_imports.'
        ) from error
    except TypeError as error:
        raise ConfigError(
            f'model.flow: {cfg["type"]} does not take these arguments: '
            f'{error}.'
        ) from error
