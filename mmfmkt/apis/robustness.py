"""Config key ``robustness``: additions to a training of MMEngine.

    robustness = dict(
        exact_resume=True, nan_guard=True, monitor=True, safe_checkpoints=True)

- ``exact_resume``: an interrupted training resumes with the same results.
- ``nan_guard``: `NanGuardHook` stops training on NaN or Inf.
- ``monitor``: `FlowMonitorHook` logs statistics of the flow, and
  `DistillationLogProcessor` shortens the log line.
- ``safe_checkpoints``: checkpoints are written atomically, and loaded without
  running their code (`mmfmkt.utils.checkpoints`; enabled in `train.py`).

With all switches off, a training has MMEngine's loop, hooks, log processor,
``torch.load`` and signal handlers.
"""

from copy import deepcopy
from typing import Any, List

from mmengine.config import Config
from mmengine.hooks import CheckpointHook, EMAHook
from mmengine.registry import HOOKS, LOG_PROCESSORS, LOOPS
from mmengine.runner import (
    EpochBasedTrainLoop,
    IterBasedTrainLoop,
    LogProcessor,
)

from mmfmkt.utils.configs import typed_parts
from mmfmkt.utils.schema import (
    check_arguments,
    check_keys,
    constructor_arguments,
)
from mmfmkt.utils.types import is_from_mmfmkt, resolve_type

SWITCHES = dict(
    exact_resume=bool, nan_guard=bool, monitor=bool, safe_checkpoints=bool
)
RESUMABLE_LOOPS = {
    EpochBasedTrainLoop: 'mmfmkt.ResumableEpochLoop',
    IterBasedTrainLoop: 'mmfmkt.ResumableIterLoop',
}


def complete_robustness(cfg: Config) -> None:
    """Add missing switches to ``robustness``; the default is True.

    Args:
        cfg (Config): Changed in place.

    Raises:
        ConfigError: If a switch is unknown or not a bool.
    """
    switches = cfg.get('robustness') or {}
    check_keys(switches, SWITCHES, 'robustness')
    cfg.robustness = {**dict.fromkeys(SWITCHES, True), **switches}


def with_robustness(cfg: Config) -> Config:
    """Return a copy of a config with the loop and hooks of ``robustness``.

    It replaces MMEngine's training loops, checkpoint hook and log processor,
    but no subclasses or other classes.

    Args:
        cfg (Config): Config completed by `complete_robustness`.
    """
    switches = cfg.robustness
    cfg = deepcopy(cfg)
    hooks: List[str] = []
    if switches.exact_resume:
        replace_loop(cfg)
        hooks.append('mmfmkt.InterruptHook')
    if switches.exact_resume or switches.safe_checkpoints:
        replace_checkpoint_hook(
            cfg, switches.exact_resume, switches.safe_checkpoints
        )
    if switches.nan_guard:
        hooks.append('mmfmkt.NanGuardHook')
    if switches.monitor and 'student' in cfg.model:
        hooks.append('mmfmkt.FlowMonitorHook')
        replace_log_processor(cfg)
    add_hooks(cfg, hooks)
    return cfg


def replace_loop(cfg: Config) -> None:
    """Replace MMEngine's training loop by one with exact resume."""
    loop: Any = cfg.get('train_cfg') or {}
    if 'type' not in loop and 'by_epoch' in loop:
        loop.type = (
            EpochBasedTrainLoop if loop.pop('by_epoch') else IterBasedTrainLoop
        )
    loop_type = resolve_type(loop, LOOPS, cfg.get('default_scope'))
    if loop_type in RESUMABLE_LOOPS:
        loop.type = RESUMABLE_LOOPS[loop_type]


def replace_checkpoint_hook(
    cfg: Config, exact_resume: bool, atomic: bool
) -> None:
    """Replace CheckpointHook by AtomicCheckpointHook."""
    hooks = dict(cfg.get('default_hooks') or {})
    hook = hooks.get('checkpoint', dict(type=CheckpointHook))
    scope = cfg.get('default_scope')
    if hook and resolve_type(hook, HOOKS, scope) is CheckpointHook:
        hooks['checkpoint'] = dict(
            hook,
            type='mmfmkt.AtomicCheckpointHook',
            exact_resume=exact_resume,
            atomic=atomic,
        )
        cfg.default_hooks = hooks


def replace_log_processor(cfg: Config) -> None:
    """Replace LogProcessor by DistillationLogProcessor."""
    processor = dict(cfg.get('log_processor') or {})
    processor.setdefault('type', LogProcessor)
    scope = cfg.get('default_scope')
    if resolve_type(processor, LOG_PROCESSORS, scope) is LogProcessor:
        processor['type'] = 'mmfmkt.DistillationLogProcessor'
        cfg.log_processor = processor


def add_hooks(cfg: Config, names: List[str]) -> None:
    """Add hooks to ``custom_hooks``, except types that it already has."""
    hooks = list(cfg.get('custom_hooks') or [])
    scope = cfg.get('default_scope')
    present_types = tuple(
        resolve_type(hook, HOOKS, scope) or object
        if isinstance(hook, dict)
        else type(hook)
        for hook in hooks
    )
    cfg.custom_hooks = hooks + [
        dict(type=name)
        for name in names
        if not any(issubclass(x, HOOKS.get(name)) for x in present_types)
    ]


def check_mmfmkt_hooks(cfg: Config) -> None:
    """Check the arguments of mmfmkt's hooks.

    Args:
        cfg (Config): Config of a training.

    Raises:
        ConfigError: If an argument is unknown or invalid.
    """
    scope = cfg.get('default_scope')
    not_arguments = ('type', 'priority', '_scope_')
    hooks = {x: cfg.get(x) for x in ('default_hooks', 'custom_hooks')}
    for key, hook in typed_parts(hooks):
        hook_type = resolve_type(hook, HOOKS, scope)
        if hook_type and is_from_mmfmkt(hook_type):
            settings = {
                k: v for k, v in hook.items() if k not in not_arguments
            }
            if issubclass(hook_type, EMAHook):
                # Other arguments are those of the averaged model.
                known = constructor_arguments(hook_type)[0]
                settings = {k: settings[k] for k in settings if k in known}
            check_arguments(hook_type, settings, key)
