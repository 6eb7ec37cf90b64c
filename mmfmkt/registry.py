"""Registries of scope ``mmfmkt``, children of MMEngine's roots.

A config names what they hold as ``mmfmkt.Name``; inside ``model.flow`` the
prefix may be left out. They do not search MMDetection's or MMPretrain's
registries, in which equal names are different classes: typed dicts of the
shipped configs carry the ``_scope_`` of their library.
"""

from typing import Any, get_args

from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import LOG_PROCESSORS as MMENGINE_LOG_PROCESSORS
from mmengine.registry import LOOPS as MMENGINE_LOOPS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import Registry
from torch import nn

from mmfmkt.utils import ConfigError
from mmfmkt.utils.schema import (
    PLAIN,
    arguments,
    check_arguments,
    nearest,
    shown,
)

MODELS = Registry(
    'model',
    parent=MMENGINE_MODELS,
    scope='mmfmkt',
    locations=['mmfmkt.models.backbones', 'mmfmkt.models.distillers'],
)
DATASETS = Registry(
    'dataset',
    parent=MMENGINE_DATASETS,
    scope='mmfmkt',
    locations=['mmfmkt.datasets.unlabelled_images'],
)
HOOKS = Registry(
    'hook', parent=MMENGINE_HOOKS, scope='mmfmkt', locations=['mmfmkt.engine']
)
LOOPS = Registry(
    'loop', parent=MMENGINE_LOOPS, scope='mmfmkt', locations=['mmfmkt.engine']
)
LOG_PROCESSORS = Registry(
    'log processor',
    parent=MMENGINE_LOG_PROCESSORS,
    scope='mmfmkt',
    locations=['mmfmkt.engine'],
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
TRANSFORMS = Registry(
    'transform',
    parent=MMENGINE_TRANSFORMS,
    scope='mmfmkt',
    locations=['mmfmkt.datasets.transforms'],
)


def build_part(cfg: Any, key: str = 'model.flow', **defaults: Any) -> Any:
    """Build a part of a flow, whatever the default scope of the run is.

    Args:
        cfg (dict | Any): Config with ``type``, or a built part.
        key (str): The config key it stands in, for errors.
        defaults: Arguments that ``cfg`` may override.

    Raises:
        ConfigError: If there is no such part, or not with such arguments.
    """
    if isinstance(cfg, nn.Module) or not isinstance(cfg, (dict, *PLAIN)):
        return cfg
    if not isinstance(cfg, dict) or 'type' not in cfg:
        raise ConfigError(
            f"{key} is {shown(cfg)}, but must be a config, a dict with 'type'."
        )
    settings = {k: v for k, v in cfg.items() if k not in ('type', '_scope_')}
    kind = cfg['type']
    if isinstance(kind, str):
        kind = MODELS.get(kind)
    if not isinstance(kind, type):
        raise ConfigError(
            f'{key}.type: there is no {cfg["type"]!r}'
            f'{nearest(cfg["type"], MODELS.module_dict)}; it is misspelt, or '
            'its module is not in custom_imports.'
        )
    settings = {**defaults, **settings}
    taken, _ = arguments(kind)
    for name, value in settings.items():
        if not takes_module(taken.get(name)):
            continue
        if isinstance(value, dict):
            settings[name] = build_part(value, f'{key}.{name}')
        elif isinstance(value, (list, tuple)):
            settings[name] = [
                build_part(part, f'{key}.{name}[{i}]')
                for i, part in enumerate(value)
            ]
    check_arguments(kind, settings, key)
    try:
        return kind(**settings)
    except ConfigError:
        raise
    except (ValueError, TypeError) as error:
        # A sentence that begins with an argument goes on from its key.
        join = '.' if str(error).split(' ')[0] in taken else ': '
        raise ConfigError(f'{key}{join}{error}') from error


def takes_module(hint: Any) -> bool:
    """Return whether an argument so annotated may be a module."""
    kinds = (hint, *get_args(hint))
    return any(isinstance(x, type) and issubclass(x, nn.Module) for x in kinds)
