"""The checkpoint that a run is resumed from."""

import os
import warnings
import zipfile
from pathlib import Path
from typing import Any, List, Optional, Tuple

from mmengine.config import Config

from mmfmkt.utils import ConfigError
from mmfmkt.utils.checkpoints import DamagedCheckpointError, load_checkpoint

from .atomic_checkpoint_hook import INTERRUPTED

POINTER = 'last_checkpoint'


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
    text = pointer.read_text().strip() if pointer.is_file() else ''
    # MMEngine writes the pointer in place, so a kill may leave it empty.
    named = Path(text or work_dir / INTERRUPTED)
    # CheckpointHook may write to another folder.
    folder = named.parent if named.parent.is_dir() else work_dir
    patterns = ('epoch_*.pth', 'iter_*.pth', INTERRUPTED)
    found = {path for x in patterns for path in folder.glob(x)}
    if named.is_file():
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
    except (DamagedCheckpointError, OSError, zipfile.BadZipFile):
        return None
    return loaded if 'meta' in loaded and 'state_dict' in loaded else None
