"""What the parts of a run must be that a library takes as they come."""

import inspect
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Dict, Iterator, Optional, Sequence, Tuple, Union

from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS, MODELS

from mmfmkt.utils import ConfigError
from mmfmkt.utils.schema import (
    Count,
    Index,
    arguments,
    check_arguments,
    check_keys,
    check_value,
    nearest,
)

LOOP = dict(
    max_epochs=Union[Count, float],
    max_iters=Union[Count, float],
    val_begin=Index,
    val_interval=Count,
)
SECTIONS: Dict[str, Any] = dict(
    model=dict,
    default_hooks=Optional[Dict[str, Optional[dict]]],
    custom_hooks=Optional[Sequence[Any]],
    train_cfg=Optional[dict],
    train_dataloader=Optional[dict],
    val_dataloader=Optional[dict],
    val_evaluator=Union[None, dict, Sequence[dict]],
    optim_wrapper=Optional[dict],
    param_scheduler=Union[None, dict, Sequence[dict]],
    randomness=Optional[dict],
    env_cfg=Optional[dict],
    default_scope=Optional[str],
    load_from=Optional[str],
    custom_imports=Optional[dict],
)
# Whose annotations are to be relied on.
ANNOTATED = ('mmengine.hooks', 'mmfmkt.')


def check_run(cfg: Config) -> None:
    """Check what MMEngine takes as it comes, and fails of in training.

    Args:
        cfg (Config): The config of a training.

    Raises:
        ConfigError: Names the key that is at fault.
    """
    for key, kind in SECTIONS.items():
        if key in cfg:
            check_value(cfg[key], kind, key)
    loop = cfg.get('train_cfg') or {}
    known = {key: loop[key] for key in LOOP if key in loop}
    check_keys(known, LOOP, 'train_cfg')
    check_scope(cfg.get('default_scope'))
    for key, hook in hooks_of(cfg):
        check_hook(hook, key)
    for key, nms in parts_named('nms', cfg.model, 'model'):
        check_nms(nms, key)


def check_scope(scope: Optional[str]) -> None:
    """Insist that a default scope is that of a library."""
    scopes = ['mmengine', *MODELS.children]
    if scope and scope not in scopes and find_spec(scope) is None:
        raise ConfigError(
            f'default_scope: there is no library {scope!r}'
            f'{nearest(scope, scopes)}.'
        )


def hooks_of(cfg: Config) -> Iterator[Tuple[str, dict]]:
    """Configs of hooks by key."""
    for name, hook in (cfg.get('default_hooks') or {}).items():
        if hook:
            yield f'default_hooks.{name}', hook
    for index, hook in enumerate(cfg.get('custom_hooks') or []):
        if isinstance(hook, dict):
            yield f'custom_hooks[{index}]', hook


def check_hook(hook: dict, key: str) -> None:
    """Hold a hook of MMEngine or of ours to its annotations."""
    kind = hook.get('type')
    if isinstance(kind, str):
        with HOOKS.switch_scope_and_registry('mmfmkt') as registry:
            kind = registry.get(kind)
    if not inspect.isclass(kind) or not kind.__module__.startswith(ANNOTATED):
        return  # another library's, or none: the Runner will say so
    aside = ('type', 'priority', '_scope_')
    settings = {k: v for k, v in hook.items() if k not in aside}
    taken, _ = arguments(kind)
    if kind.__module__.startswith('mmengine') and kind is not CheckpointHook:
        # What it hands on to others is for them to refuse.
        settings = {k: v for k, v in settings.items() if k in taken}
    check_arguments(kind, settings, key)


def parts_named(
    name: str, part: Any, front: str
) -> Iterator[Tuple[str, dict]]:
    """Sections of a config that have a name, by key."""
    rows = (
        part.items()
        if isinstance(part, dict)
        else enumerate(part)
        if isinstance(part, (list, tuple))
        else ()
    )
    for key, value in rows:
        path = f'{front}.{key}'
        if key == name and isinstance(value, dict):
            yield path, value
        yield from parts_named(name, value, path)


def check_nms(nms: dict, key: str) -> None:
    """Insist on a suppression that mmcv has; it is called by its name."""
    try:
        ops = import_module('mmcv.ops.nms')
    except ImportError:
        return  # there are no detectors either
    kind = nms.get('type', 'nms')
    if not callable(getattr(ops, str(kind), None)):
        names = [x for x in vars(ops) if 'nms' in x]
        raise ConfigError(
            f'{key}.type: mmcv has no {kind!r}{nearest(kind, names)}.'
        )
