"""Runs that can be ended at any moment, and go on from there."""

import os
import warnings
import zipfile
from copy import deepcopy
from pathlib import Path
from typing import Any, List, Optional, Tuple

from mmengine.config import Config

from mmfmkt.engine.hooks.atomic_checkpoint_hook import INTERRUPTED
from mmfmkt.utils import ConfigError
from mmfmkt.utils.checkpoints import DamagedCheckpoint, load_checkpoint

LOOPS = {
    'EpochBasedTrainLoop': 'mmfmkt.ResumableEpochLoop',
    'IterBasedTrainLoop': 'mmfmkt.ResumableIterLoop',
}
# What every training has; one that a config has itself is the only one.
HOOKS = (
    'mmfmkt.InterruptHook',
    'mmfmkt.PreflightHook',
    'mmfmkt.FiniteHook',
    'mmfmkt.TeacherCacheHook',
    'mmfmkt.FlowMonitorHook',
)
POINTER = 'last_checkpoint'


def resumable(cfg: Config) -> Config:
    """A copy in which MMEngine's loop, checkpoint hook and log are ours.

    Other loops and hooks than MMEngine's own stay as they are.

    Args:
        cfg (Config): The config of a training.
    """
    cfg = deepcopy(cfg)
    loop = cfg.get('train_cfg') or {}
    if 'type' not in loop and 'by_epoch' in loop:
        names = tuple(LOOPS)
        loop['type'] = names[0] if loop.pop('by_epoch') else names[1]
    if loop.get('type') in LOOPS:
        loop['type'] = LOOPS[loop['type']]
    hooks = dict(cfg.get('default_hooks') or {})
    hook = hooks.setdefault('checkpoint', dict(type='CheckpointHook'))
    if hook and hook.get('type') == 'CheckpointHook':
        hooks['checkpoint'] = dict(hook, type='mmfmkt.AtomicCheckpointHook')
    cfg.default_hooks = hooks
    log = dict(cfg.get('log_processor') or dict(type='LogProcessor'))
    if log.get('type') == 'LogProcessor':
        cfg.log_processor = dict(log, type='mmfmkt.DistillationLogProcessor')
    own = cfg.get('custom_hooks') or []
    there = {str(x.get('type')) for x in own if isinstance(x, dict)}
    ours = [dict(type=x) for x in HOOKS if x not in there]
    cfg.custom_hooks = [*own, *ours]
    return cfg


def resume_from_latest(cfg: Config) -> None:
    """Name the checkpoint to go on from, and the seed that it began with.

    Args:
        cfg (Config): Changed in place, where its work folder has one.

    Raises:
        ConfigError: If there are some, and none can be read.
    """
    if cfg.get('load_from') is None:
        cfg.load_from, loaded = latest_checkpoint(Path(cfg.work_dir))
    else:
        loaded = load_checkpoint(cfg.load_from)
    seed = (loaded or {}).get('meta', {}).get('seed')
    if seed is not None and cfg.get('randomness', {}).get('seed') is None:
        cfg.randomness = dict(cfg.get('randomness') or {}, seed=seed)


def latest_checkpoint(
    work_dir: Path,
) -> Tuple[Optional[str], Optional[dict]]:
    """Find the newest checkpoint of a work folder that is whole.

    Args:
        work_dir (Path): The folder.

    Returns:
        tuple: Its path and what it holds, or None and None.

    Raises:
        ConfigError: If there are some, and none can be read.
    """
    damaged: List[str] = []
    for path in checkpoints_of(work_dir):
        loaded = whole_checkpoint(path)
        if loaded is not None:
            if damaged:
                warnings.warn(
                    f'{" and ".join(damaged)} cannot be read, and was not '
                    f'written whole or was damaged since: going on from '
                    f'{path}, the one before.',
                    stacklevel=2,
                )
            return str(path), loaded
        damaged.append(str(path))
    if damaged:
        raise ConfigError(
            f'--resume: {" and ".join(damaged)} cannot be read: start anew '
            'without --resume, or name another checkpoint behind it.'
        )
    return None, None


def checkpoints_of(work_dir: Path) -> List[Path]:
    """Checkpoints of a run that can be resumed, the newest first."""
    pointer = work_dir / POINTER
    named = Path(pointer.read_text().strip()) if pointer.is_file() else None
    folder = work_dir
    if named is not None and '://' not in str(named):
        # CheckpointHook can be told of another folder.
        folder = named.parent if named.parent.is_dir() else work_dir
    found = {
        path
        for pattern in ('epoch_*.pth', 'iter_*.pth', INTERRUPTED)
        for path in folder.glob(pattern)
    }
    if named is not None and named.is_file():
        found.add(named)
    return sorted(found, key=os.path.getmtime, reverse=True)


def whole_checkpoint(path: Path) -> Optional[Any]:
    """What a checkpoint holds, or None where it is damaged."""
    try:
        # Reads every byte and its sum, which PyTorch does not.
        with zipfile.ZipFile(path) as file:
            if file.testzip() is not None:
                return None
        loaded = load_checkpoint(str(path))
    except (DamagedCheckpoint, OSError, zipfile.BadZipFile):
        return None
    return loaded if 'meta' in loaded and 'state_dict' in loaded else None
