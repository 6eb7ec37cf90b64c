"""Conversion of configs to MMEngine's new style (read_base, classes)."""

from mmengine.registry import (
    DATA_SAMPLERS,
    DATASETS,
    HOOKS,
    LOG_PROCESSORS,
    LOOPS,
    METRICS,
    MODELS,
    OPTIM_WRAPPERS,
    OPTIMIZERS,
    PARAM_SCHEDULERS,
    TASK_UTILS,
    TRANSFORMS,
    VISBACKENDS,
    VISUALIZERS,
)

from mmfmkt.utils.config_text import assignment
from mmfmkt.utils.types import resolve_type

REGISTRIES = (
    MODELS,
    TASK_UTILS,
    DATASETS,
    TRANSFORMS,
    DATA_SAMPLERS,
    METRICS,
    OPTIM_WRAPPERS,
    OPTIMIZERS,
    PARAM_SCHEDULERS,
    LOOPS,
    HOOKS,
    LOG_PROCESSORS,
    VISUALIZERS,
    VISBACKENDS,
)


class Name(str):
    """Name of an imported class, written without quotes."""

    __repr__ = str.__str__


def write_new_style(path, cfg):
    """Write a config of a library as a base and a config that reads it.

    Args:
        path (Path): Path of the config; the base is written beside it.
        cfg (Config): Old-style config with a default scope.
    """
    imports = {}
    scope = cfg.default_scope
    settings = {k: with_classes(v, scope, imports) for k, v in cfg.items()}
    model = settings.pop('model')
    settings['default_scope'] = None
    base = path.with_name(f'{path.stem}_base.py')
    base.write_text(
        '\n'.join(
            [
                *(f'from {x} import {name}' for name, x in imports.items()),
                *(assignment(key, value) for key, value in settings.items()),
            ]
        )
    )
    path.write_text(
        '\n'.join(
            [
                'from mmengine.config import read_base',
                *(f'from {x} import {name}' for name, x in imports.items()),
                'with read_base():',
                f'    from .{base.stem} import *',
                assignment('model', model),
            ]
        )
    )
    return path


def with_classes(value, scope, imports):
    """Replace names of types by classes, and collect their modules."""
    if isinstance(value, (list, tuple)):
        return type(value)(with_classes(x, scope, imports) for x in value)
    if not isinstance(value, dict):
        return value
    value = {k: with_classes(v, scope, imports) for k, v in value.items()}
    for registry in REGISTRIES if isinstance(value.get('type'), str) else ():
        kind = resolve_type(value['type'], registry, scope)
        if kind is not None:
            imports[kind.__name__] = kind.__module__
            value['type'] = Name(kind.__name__)
            break
    return value
