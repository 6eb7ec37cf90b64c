"""What a work folder of a training says, finished or not."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional

from mmengine.config import Config

from mmfmkt.utils import ConfigError

# A part of a loss: tap, level, part.
PART = re.compile(r'^(?P<tap>.+?)\.(?P<level>\d+)\.(?P<part>[a-z_]+)$')
# A metric at one K, as StepAccuracy names it.
BY_STEPS = re.compile(r'^(?P<name>.+)_k(?P<k>\d+)$')
# What a Runner logs besides losses and metrics.
OTHER = ('lr', 'time', 'data_time', 'epoch', 'iter', 'step', 'memory')


@dataclass
class WorkDir:
    """A training.

    Attributes:
        name (str): What the page calls it.
        folder (Path): Its work folder.
        config (Config): What it trains by.
        train (list[dict]): Logged iterations, each with ``iter``.
        val (list[dict]): Validations, each with ``step``.
        flow (list[dict]): What FlowMonitorHook saw, each with ``step``.
        environment (str): What MMEngine says of the machine.
        checkpoint (Path, optional): The latest.
    """

    name: str
    folder: Path
    config: Config
    train: List[Dict[str, float]] = field(default_factory=list)
    val: List[Dict[str, float]] = field(default_factory=list)
    flow: List[Dict[str, float]] = field(default_factory=list)
    environment: str = ''
    checkpoint: Optional[Path] = None

    @property
    def distils(self) -> bool:
        """Whether it is a distillation."""
        return 'student' in self.config.model

    @property
    def seed(self) -> Optional[int]:
        """The seed it was given."""
        return (self.config.get('randomness') or {}).get('seed')

    @property
    def metrics(self) -> List[str]:
        """Names of what validations gave."""
        return [
            key
            for key in dict.fromkeys(key for x in self.val for key in x)
            if key not in OTHER
        ]

    def by_steps(self) -> Dict[str, Dict[int, float]]:
        """What the last validation gave at each K, by metric."""
        found: Dict[str, Dict[int, float]] = {}
        for name, value in (self.val[-1] if self.val else {}).items():
            if seen := BY_STEPS.match(name):
                found.setdefault(seen['name'], {})[int(seen['k'])] = value
        return {name: dict(sorted(x.items())) for name, x in found.items()}

    def losses(self) -> List[str]:
        """Names of the logged losses, the sum first."""
        names = dict.fromkeys(
            key
            for line in self.train
            for key in line
            if 'loss' in key or 'metric_of_mean' in key
        )
        return sorted(names, key=lambda x: (x != 'loss', x))


def read_work_dir(folder: str) -> WorkDir:
    """Read what a training left, or has left so far.

    Args:
        folder (str): Its work folder.

    Raises:
        ConfigError: If there is no training in it.
    """
    path = Path(folder)
    logs = sorted(path.glob('*/vis_data/scalars.json'))
    configs = sorted(path.glob('*/vis_data/config.py'))
    if not logs or not configs:
        raise ConfigError(
            f'{folder!r} is no work folder of a training: it has no '
            '*/vis_data with scalars.json and config.py, which '
            "MMEngine's LocalVisBackend writes."
        )
    parts = path.resolve().parts
    # A folder that is called by its seed says little alone.
    name = '/'.join(parts[-2:]) if parts[-1].isdigit() else parts[-1]
    run = WorkDir(name, path, Config.fromfile(configs[-1]))
    for log in logs:
        for line in read_lines(log):
            if any(key.startswith('flow/') for key in line):
                run.flow.append(line)
            elif 'iter' in line and 'loss' in line:
                run.train.append(line)
            elif 'loss' not in line and len(line) > 1:
                run.val.append(line)
    # A resumed run has written some iterations twice: the last counts.
    run.train = latest(run.train, 'iter')
    run.val, run.flow = latest(run.val, 'step'), latest(run.flow, 'step')
    run.environment = environment_of(path)
    run.checkpoint = checkpoint_of(path)
    return run


def read_lines(path: Path) -> List[Dict[str, Any]]:
    """Whole lines of a log; a running training may be writing the last."""
    found = []
    for line in path.read_text(encoding='utf-8').splitlines():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found


def latest(lines: List[dict], key: str) -> List[dict]:
    """Lines in the order of a key, the last of those that share it."""
    return [x for _, x in sorted({x[key]: x for x in lines}.items())]


def environment_of(folder: Path) -> str:
    """What the log says of system and runtime."""
    for log in sorted(folder.glob('*/*.log'), reverse=True):
        text = log.read_text(encoding='utf-8', errors='replace')
        found = re.search(
            r'System environment:\n(.*?)\n-{10,}\n', text, re.DOTALL
        )
        if found:
            return found[1]
    return ''


def checkpoint_of(folder: Path) -> Optional[Path]:
    """The checkpoint that a run has written last."""
    pointer = folder / 'last_checkpoint'
    if pointer.is_file():
        named = Path(pointer.read_text().strip())
        for path in (named, folder / named.name):
            if path.is_file():
                return path
    found = [*folder.glob('epoch_*.pth'), *folder.glob('iter_*.pth')]
    return max(found, key=lambda x: x.stat().st_mtime, default=None)


def name_apart(runs: List[WorkDir]) -> None:
    """Give runs of equal names those of their parents as well."""
    for depth in range(2, 6):
        names = [x.name for x in runs]
        if len(set(names)) == len(names):
            return
        for run in runs:
            if names.count(run.name) > 1:
                parts = run.folder.resolve().parts[-depth:]
                run.name = '/'.join(parts)


def flat(config: Any, front: str = '') -> Dict[str, Any]:
    """A config's values by dotted keys."""
    if isinstance(config, dict) and config:
        found: Dict[str, Any] = {}
        for key, value in config.items():
            found.update(flat(value, f'{front}.{key}' if front else key))
        return found
    return {front: config}


def differences(runs: List[WorkDir]) -> Dict[str, List[str]]:
    """Keys of which the runs' configs differ, with each one's value."""
    configs = [flat(run.config.to_dict()) for run in runs]
    keys = dict.fromkeys(key for x in configs for key in x)
    found = {}
    for key in keys:
        values = [repr(x[key]) if key in x else '' for x in configs]
        if len(set(values)) > 1 and key != 'work_dir':
            found[key] = values
    return found
