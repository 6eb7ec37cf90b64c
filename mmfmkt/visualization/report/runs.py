"""Logs, config and checkpoint in the work folder of a training."""

import json
import os
import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional

from mmengine.config import Config

from mmfmkt.engine.resume.latest_checkpoint import checkpoints_of
from mmfmkt.utils import ConfigError

# A part of a loss: tap, level, part.
PART = re.compile(r'^(?P<tap>.+?)\.(?P<level>\d+)\.(?P<part>[a-z_]+)$')
# A metric at one K, as StepAccuracy names it.
BY_STEPS = re.compile(r'^(?P<name>.+)_k(?P<k>\d+)$')
# What a Runner logs besides losses and metrics.
OTHER = {'lr', 'time', 'data_time', 'epoch', 'iter', 'step', 'memory'}


@dataclass
class WorkDir:
    """A training, finished or not.

    Attributes:
        name (str): Its name in the report.
        folder (Path): Its work folder.
        config (Config): Its config.
        train (list[dict]): Logged iterations, each with ``iter``.
        val (list[dict]): Validations, each with ``step``.
        flow (list[dict]): Records of FlowMonitorHook, each with ``step``.
        teacher (dict): Metrics of the teacher that TeacherCheckHook wrote.
        environment (str): MMEngine's description of the machine.
        checkpoint (Path, optional): The latest.
    """

    name: str
    folder: Path
    config: Config
    train: List[Dict[str, float]] = field(default_factory=list)
    val: List[Dict[str, float]] = field(default_factory=list)
    flow: List[Dict[str, float]] = field(default_factory=list)
    teacher: Dict[str, float] = field(default_factory=dict)
    environment: str = ''
    checkpoint: Optional[Path] = None

    @property
    def distills(self) -> bool:
        """Whether it is a distillation."""
        return 'student' in self.config.model

    @property
    def metrics(self) -> List[str]:
        """Names of the validations' metrics."""
        keys = dict.fromkeys(key for x in self.val for key in x)
        return [key for key in keys if key not in OTHER]

    def contains(self, checkpoint: Optional[str]) -> bool:
        """Return whether a checkpoint lies in the work folder."""
        folder = self.folder.resolve()
        return (
            bool(checkpoint) and folder in Path(checkpoint).resolve().parents
        )

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
    """Read the logs of a training, which may still be running.

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
    # A folder that is named by its seed says little alone.
    name = '/'.join(parts[-2:]) if parts[-1].isdigit() else parts[-1]
    run = WorkDir(name, path, Config.fromfile(configs[-1]))
    for line in (x for log in logs for x in read_lines(log)):
        if any(key.startswith('flow/') for key in line):
            run.flow.append(line)
        elif any(key.startswith('teacher/') for key in line):
            run.teacher = {k.removeprefix('teacher/'): line[k] for k in line}
        elif 'iter' in line and 'loss' in line:
            run.train.append(line)
        elif 'loss' not in line and len(line) > 1:
            run.val.append(line)
    # A resumed run has written some iterations twice: the last counts.
    run.train = latest(run.train, 'iter')
    run.val, run.flow = latest(run.val, 'step'), latest(run.flow, 'step')
    run.environment = environment_of(path)
    run.checkpoint = next(iter(checkpoints_of(path)), None)
    return run


def last_validation(checkpoint: Optional[str]) -> Dict[str, float]:
    """Return the last metrics of the training that wrote a checkpoint."""
    with suppress(ConfigError):
        if checkpoint:
            run = read_work_dir(str(Path(checkpoint).parent))
            return run.val[-1] if run.val else {}
    return {}


def read_lines(path: Path) -> List[Dict[str, Any]]:
    """Read the complete lines of a log, whose last may be incomplete."""
    lines = []
    for line in path.read_text(encoding='utf-8').splitlines():
        with suppress(json.JSONDecodeError):
            lines.append(json.loads(line))
    return lines


def latest(lines: List[dict], key: str) -> List[dict]:
    """Return lines in the order of a key, the last of those that share it."""
    return [x for _, x in sorted({x[key]: x for x in lines}.items())]


def environment_of(folder: Path) -> str:
    """Return the log's description of system and runtime."""
    pattern = re.compile(r'System environment:\n(.*?)\n-{10,}\n', re.DOTALL)
    for log in sorted(folder.glob('*/*.log'), reverse=True):
        if found := pattern.search(log.read_text('utf-8', 'replace')):
            return found[1]
    return ''


def name_apart(runs: List[WorkDir]) -> None:
    """Add the folders to names that several runs share."""
    names = [x.name for x in runs]
    root = os.path.commonpath([x.folder.resolve().parent for x in runs])
    for run in runs:
        if names.count(run.name) > 1:
            run.name = run.folder.resolve().relative_to(root).as_posix()


def flatten(config: Any, prefix: str = '') -> Dict[str, Any]:
    """Return a config's values by dotted keys."""
    if not isinstance(config, dict) or not config:
        return {prefix: config}
    values: Dict[str, Any] = {}
    for key, value in config.items():
        values.update(flatten(value, f'{prefix}.{key}' if prefix else key))
    return values


def differences(runs: List[WorkDir]) -> Dict[str, List[str]]:
    """Return each run's value of the keys in which their configs differ."""
    configs = [flatten(run.config.to_dict()) for run in runs]
    keys = dict.fromkeys(key for x in configs for key in x)
    rows = {
        key: [repr(x[key]) if key in x else '' for x in configs]
        for key in keys
        if key != 'work_dir'
    }
    return {key: x for key, x in rows.items() if len(set(x)) > 1}
