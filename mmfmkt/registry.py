"""Registries of scope ``mmfmkt``, children of MMEngine's root registries.

Configs name registered classes as ``mmfmkt.Name``; inside ``model.flow`` the
prefix is optional. The registries do not search those of MMDetection and
MMPretrain, where the same name may be another class. Dicts with ``type`` in
the shipped configs therefore have the ``_scope_`` of their library.
"""

from typing import Any, get_args

import mmengine.registry as mmengine_registry
from mmengine.registry import Registry
from torch import nn

from mmfmkt.utils import ConfigError
from mmfmkt.utils.schema import (
    BUILTIN_TYPES,
    check_arguments,
    constructor_arguments,
    did_you_mean,
    short_repr,
)


def child_registry(parent: Registry, *modules: str) -> Registry:
    """Return mmfmkt's child of a registry of MMEngine.

    Args:
        parent (Registry): The registry of MMEngine.
        modules (str): Modules of mmfmkt that register classes; they are
            imported when a class is looked up.
    """
    locations = [f'mmfmkt.{module}' for module in modules]
    return Registry(
        parent.name, parent=parent, scope='mmfmkt', locations=locations
    )


MODELS = child_registry(
    mmengine_registry.MODELS, 'models.backbones', 'models.distillers'
)
DATASETS = child_registry(
    mmengine_registry.DATASETS, 'datasets.unlabelled_images'
)
HOOKS = child_registry(mmengine_registry.HOOKS, 'engine')
LOOPS = child_registry(mmengine_registry.LOOPS, 'engine')
LOG_PROCESSORS = child_registry(mmengine_registry.LOG_PROCESSORS, 'engine')
METRICS = child_registry(mmengine_registry.METRICS, 'evaluation')
OPTIM_WRAPPERS = child_registry(mmengine_registry.OPTIM_WRAPPERS, 'engine')
TRANSFORMS = child_registry(
    mmengine_registry.TRANSFORMS, 'datasets.transforms'
)


def build_part(cfg: Any, key: str = 'model.flow', **defaults: Any) -> Any:
    """Build a part of a flow: encoder, noise schedule or distillation loss.

    Args:
        cfg (dict | Any): Config with ``type``, or the part itself, which is
            returned.
        key (str): Config key of the part, for errors.
        defaults: Default arguments, which ``cfg`` may override.

    Raises:
        ConfigError: If the type is not registered or an argument is invalid.
    """
    if not isinstance(cfg, BUILTIN_TYPES):
        return cfg
    if not isinstance(cfg, dict) or 'type' not in cfg:
        raise ConfigError(
            f"{key} must be a dict with the key 'type', got {short_repr(cfg)}."
        )
    settings = {k: v for k, v in cfg.items() if k not in ('type', '_scope_')}
    part_class = cfg['type']
    if isinstance(part_class, str):
        part_class = MODELS.get(part_class)
    if not isinstance(part_class, type):
        raise ConfigError(
            f'{key}.type: {cfg["type"]!r} is not registered'
            f'{did_you_mean(cfg["type"], MODELS.module_dict)}; the module '
            'that registers the class must be in custom_imports.'
        )
    settings = {**defaults, **settings}
    annotations, _ = constructor_arguments(part_class)
    for name, value in settings.items():
        if not takes_module(annotations.get(name)):
            continue
        if isinstance(value, dict):
            settings[name] = build_part(value, f'{key}.{name}')
        elif isinstance(value, (list, tuple)):
            settings[name] = [
                build_part(part, f'{key}.{name}[{i}]')
                for i, part in enumerate(value)
            ]
    check_arguments(part_class, settings, key)
    try:
        return part_class(**settings)
    except (ValueError, TypeError) as error:
        # If the message starts with the name of an argument, the error reads
        # '<key>.<argument> ...', else '<key>: ...'.
        names_argument = str(error).split(' ')[0] in annotations
        separator = '.' if names_argument else ': '
        raise ConfigError(f'{key}{separator}{error}') from error


def takes_module(hint: Any) -> bool:
    """Return whether an argument with an annotation may be a module."""
    types = (hint, *get_args(hint))
    return any(isinstance(x, type) and issubclass(x, nn.Module) for x in types)
