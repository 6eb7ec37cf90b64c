"""Search for the checkpoint to resume from."""

import warnings
import zipfile
from pathlib import Path
from typing import Any, List, Optional, Tuple

from mmengine.config import Config

from mmfmkt.utils import ConfigError
from mmfmkt.utils.checkpoints import DamagedCheckpointError, load_checkpoint

from .atomic_checkpoint_hook import INTERRUPTED_FILE

# MMEngine's file with the path of the latest checkpoint.
POINTER = 'last_checkpoint'


def resume_from_latest(cfg: Config) -> None:
    """Set ``load_from`` and the seed in the config of a resumed run.

    Args:
        cfg (Config): Changed in place if there is a checkpoint.

    Raises:
        ConfigError: If all checkpoints are damaged.
    """
    if cfg.get('load_from') is None:
        cfg.load_from, checkpoint = latest_checkpoint(Path(cfg.work_dir))
    else:
        is_folder = Path(cfg.load_from).is_dir()
        checkpoint = None if is_folder else load_checkpoint(cfg.load_from)
    seed = (checkpoint or {}).get('meta', {}).get('seed')
    if seed is not None and cfg.get('randomness', {}).get('seed') is None:
        cfg.randomness = dict(cfg.get('randomness') or {}, seed=seed)


def latest_checkpoint(
    work_dir: Path,
) -> Tuple[Optional[str], Optional[dict]]:
    """Find the latest undamaged checkpoint of a work directory.

    Args:
        work_dir (Path): The work directory.

    Returns:
        tuple: Path and content of the checkpoint, or None and None.

    Raises:
        ConfigError: If all checkpoints are damaged.
    """
    paths = checkpoints_of(work_dir)
    for path in paths:
        checkpoint = load_if_complete(path)
        if checkpoint is not None:
            return str(path), checkpoint
        warnings.warn(
            f'The checkpoint {path} is damaged; the previous checkpoint is '
            'used.',
            stacklevel=2,
        )
    if paths:
        raise ConfigError(
            f'--resume: all checkpoints in {work_dir} are damaged. Start a '
            'new run without --resume, or pass the path of another checkpoint.'
        )
    return None, None


def has_checkpoint(work_dir: Path) -> bool:
    """Return whether a run has saved a checkpoint, also to remote storage."""
    return (work_dir / POINTER).is_file() or bool(checkpoints_of(work_dir))


def checkpoints_of(work_dir: Path) -> List[Path]:
    """Return the checkpoints of a run, the latest first."""
    pointer = work_dir / POINTER
    text = pointer.read_text().strip() if pointer.is_file() else ''
    # MMEngine writes the pointer non-atomically, so it may be empty.
    latest = Path(text or work_dir / INTERRUPTED_FILE)
    # CheckpointHook may write to another folder.
    folder = latest.parent if latest.parent.is_dir() else work_dir
    patterns = ('epoch_*.pth', 'iter_*.pth', INTERRUPTED_FILE)
    paths = {path for x in patterns for path in folder.glob(x)}
    if latest.exists():
        paths.add(latest)
    # Copying a folder may change the times of its files.
    return sorted(
        paths,
        key=lambda x: (x.name == latest.name, x.stat().st_mtime),
        reverse=True,
    )


def load_if_complete(path: Path) -> Optional[Any]:
    """Return a checkpoint ({} for a folder), or None if it is damaged."""
    if path.is_dir():
        return {}
    try:
        # Unlike torch.load, testzip verifies the CRC of all files.
        with zipfile.ZipFile(path) as file:
            if file.testzip() is not None:
                return None
        checkpoint = load_checkpoint(str(path))
    except (DamagedCheckpointError, OSError, zipfile.BadZipFile):
        return None
    is_complete = 'meta' in checkpoint and 'state_dict' in checkpoint
    return checkpoint if is_complete else None
