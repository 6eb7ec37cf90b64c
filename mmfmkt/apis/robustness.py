"""What ``robustness`` adds to a run of MMEngine, each part with a switch.

    robustness = dict(
        exact_resume=True, nan_guard=True, monitor=True, safe_checkpoints=True)

With all of them off, a run has MMEngine's own loop, hooks, log processor,
``torch.load`` and signal handlers.
"""

from copy import deepcopy
from typing import Any, List

from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS, LOG_PROCESSORS, LOOPS
from mmengine.runner import (
    EpochBasedTrainLoop,
    IterBasedTrainLoop,
    LogProcessor,
)

from mmfmkt.utils.configs import walk
from mmfmkt.utils.schema import check_arguments, check_keys
from mmfmkt.utils.types import is_from_mmfmkt, resolve_type

SWITCHES = dict(
    exact_resume=bool, nan_guard=bool, monitor=bool, safe_checkpoints=bool
)
RESUMABLE_LOOPS = {
    EpochBasedTrainLoop: 'mmfmkt.ResumableEpochLoop',
    IterBasedTrainLoop: 'mmfmkt.ResumableIterLoop',
}


def complete_robustness(cfg: Config) -> None:
    """Write all switches into a config; those not given are on.

    Args:
        cfg (Config): Changed in place.

    Raises:
        ConfigError: If a switch is unknown or not a bool.
    """
    given = cfg.get('robustness') or {}
    check_keys(given, SWITCHES, 'robustness')
    cfg.robustness = {**dict.fromkeys(SWITCHES, True), **given}


def with_robustness(cfg: Config) -> Config:
    """Return a copy of a config with what its ``robustness`` switches on.

    Loops, checkpoint hooks and log processors of other classes than
    MMEngine's own stay as they are.

    Args:
        cfg (Config): The config of a training, with all switches.
    """
    on = cfg.robustness
    cfg = deepcopy(cfg)
    hooks: List[str] = []
    if on.exact_resume:
        replace_loop(cfg)
        hooks.append('mmfmkt.InterruptHook')
    if on.exact_resume or on.safe_checkpoints:
        replace_checkpoint_hook(cfg, on.exact_resume, on.safe_checkpoints)
    if on.nan_guard:
        hooks.append('mmfmkt.NanGuardHook')
    if on.monitor and 'student' in cfg.model:
        hooks.append('mmfmkt.FlowMonitorHook')
        replace_log_processor(cfg)
    add_hooks(cfg, hooks)
    return cfg


def replace_loop(cfg: Config) -> None:
    """Put the loop that resumes exactly in the place of MMEngine's."""
    loop: Any = cfg.get('train_cfg') or {}
    if 'type' not in loop and 'by_epoch' in loop:
        loop.type = (
            EpochBasedTrainLoop if loop.pop('by_epoch') else IterBasedTrainLoop
        )
    kind = resolve_type(loop, LOOPS, cfg.get('default_scope'))
    if kind in RESUMABLE_LOOPS:
        loop.type = RESUMABLE_LOOPS[kind]


def replace_checkpoint_hook(
    cfg: Config, exact_resume: bool, atomic: bool
) -> None:
    """Put the hook that saves states, or atomically, in CheckpointHook's."""
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
    """Put the log line of distillations in the place of MMEngine's."""
    log = dict(cfg.get('log_processor') or {})
    log.setdefault('type', LogProcessor)
    scope = cfg.get('default_scope')
    if resolve_type(log, LOG_PROCESSORS, scope) is LogProcessor:
        log['type'] = 'mmfmkt.DistillationLogProcessor'
        cfg.log_processor = log


def add_hooks(cfg: Config, names: List[str]) -> None:
    """Add hooks, but for those that a config has itself."""
    own = list(cfg.get('custom_hooks') or [])
    scope = cfg.get('default_scope')
    present = tuple(
        resolve_type(hook, HOOKS, scope) or object
        if isinstance(hook, dict)
        else type(hook)
        for hook in own
    )
    cfg.custom_hooks = own + [
        dict(type=name)
        for name in names
        if not any(
            issubclass(x, resolve_type(name, HOOKS, scope)) for x in present
        )
    ]


def check_own_hooks(cfg: Config) -> None:
    """Hold the hooks of mmfmkt to their annotations.

    Args:
        cfg (Config): The config of a training.

    Raises:
        ConfigError: If an argument is unknown or does not fit.
    """
    scope = cfg.get('default_scope')
    aside = ('type', 'priority', '_scope_')
    hooks = {x: cfg.get(x) for x in ('default_hooks', 'custom_hooks')}
    for key, hook in walk(hooks):
        kind = resolve_type(hook, HOOKS, scope)
        if isinstance(hook, dict) and is_from_mmfmkt(kind):
            settings = {k: v for k, v in hook.items() if k not in aside}
            check_arguments(kind, settings, key)
