"""Logs, config and checkpoint in the work directory of a training run."""

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
from mmfmkt.utils.configs import walk, with_importable_types

# Name of a metric at one K, from StepAccuracy.
STEP_METRIC = re.compile(r'^(?P<name>.+)_k(?P<k>\d+)$')
# Logged values that are neither losses nor metrics.
NOT_METRICS = {'lr', 'time', 'data_time', 'epoch', 'iter', 'step', 'memory'}


@dataclass
class WorkDir:
    """A training run, which may still be running.

    Attributes:
        name (str): Name in the report.
        folder (Path): Work directory.
        config (Config): Config of the run.
        train (list[dict]): Logged values of training iterations, with
            ``iter``.
        val (list[dict]): Metrics of validations, with ``step``.
        flow (list[dict]): Scalars of FlowMonitorHook, with ``step``.
        teacher (dict): Metrics of the teacher, from TeacherCheckHook.
        checkpoint (Path, optional): Latest checkpoint.
    """

    name: str
    folder: Path
    config: Config
    train: List[Dict[str, float]] = field(default_factory=list)
    val: List[Dict[str, float]] = field(default_factory=list)
    flow: List[Dict[str, float]] = field(default_factory=list)
    teacher: Dict[str, float] = field(default_factory=dict)
    checkpoint: Optional[Path] = None

    @property
    def is_distillation(self) -> bool:
        """Whether the run is a distillation."""
        return 'student' in self.config.model

    @property
    def metrics(self) -> List[str]:
        """Names of the validation metrics."""
        keys = dict.fromkeys(key for x in self.val for key in x)
        return [key for key in keys if key not in NOT_METRICS]

    def contains(self, checkpoint: Optional[str]) -> bool:
        """Return whether a checkpoint is in the work directory."""
        folder = self.folder.resolve()
        return (
            bool(checkpoint) and folder in Path(checkpoint).resolve().parents
        )

    def metrics_by_steps(self) -> Dict[str, Dict[int, float]]:
        """Return the metrics of the last validation, by name and K."""
        metrics: Dict[str, Dict[int, float]] = {}
        for name, value in (self.val[-1] if self.val else {}).items():
            if match := STEP_METRIC.match(name):
                metrics.setdefault(match['name'], {})[int(match['k'])] = value
        return {name: dict(sorted(x.items())) for name, x in metrics.items()}

    def losses(self) -> List[str]:
        """Return the names of the logged losses, the total first."""
        names = dict.fromkeys(
            key
            for line in self.train
            for key in line
            if 'loss' in key or 'metric_of_mean' in key
        )
        return sorted(names, key=lambda x: (x != 'loss', x))


def read_work_dir(folder: str) -> WorkDir:
    """Read the logs of a training run, which may still be running.

    Args:
        folder (str): Work directory.

    Raises:
        ConfigError: If the folder is not a work directory.
    """
    path = Path(folder)
    logs = sorted(path.glob('*/vis_data/scalars.json'))
    # A test writes a config, too, but no scalars.
    configs = [x for y in logs if (x := y.with_name('config.py')).exists()]
    if not logs or not configs:
        raise ConfigError(
            f'{folder!r} is not a work directory of a training run: '
            '*/vis_data/scalars.json and */vis_data/config.py of '
            "MMEngine's LocalVisBackend are missing."
        )
    parts = path.resolve().parts
    # Work directories of mmfmkt compare are <method>/<seed>.
    name = '/'.join(parts[-2:]) if parts[-1].isdigit() else parts[-1]
    config = with_importable_types(Config.fromfile(configs[-1]))
    run = WorkDir(name, path, config)
    for line in (x for log in logs for x in read_lines(log)):
        if any(key.startswith('flow/') for key in line):
            replace_later(run.flow, 'step', line)
        elif any(key.startswith('teacher/') for key in line):
            run.teacher = {k.removeprefix('teacher/'): line[k] for k in line}
        elif 'iter' in line and 'loss' in line:
            replace_later(run.train, 'iter', line)
        elif 'loss' not in line and len(line) > 1:
            replace_later(run.val, 'step', line)
    run.checkpoint = next(iter(checkpoints_of(path)), None)
    return run


def runs_by_teacher(runs: List[WorkDir]) -> Dict[str, List[WorkDir]]:
    """Return the runs of each teacher, by the teacher's name in tables."""
    groups: Dict[str, List[WorkDir]] = {}
    for run in runs:
        if run.is_distillation and run.config.model.get('teacher'):
            groups.setdefault(repr(run.config.model.teacher), []).append(run)
    if len(groups) == 1:
        return {'teacher': [*groups.values()][0]}
    return {
        f'teacher of {", ".join(run.name for run in students)}': students
        for students in groups.values()
    }


def validation_of(checkpoint: Optional[str]) -> Dict[str, float]:
    """Return the metrics of a checkpoint in its work directory, or {}."""
    step = re.search(r'(?:epoch|iter)_(\d+)', Path(checkpoint or '').name)
    with suppress(ConfigError):
        if step:
            run = read_work_dir(str(Path(checkpoint).parent))
            return next((x for x in run.val if x['step'] == int(step[1])), {})
    return {}


def read_lines(path: Path) -> List[Dict[str, Any]]:
    """Read the JSON lines of a log, without incomplete ones."""
    lines = []
    for line in path.read_text(encoding='utf-8').splitlines():
        with suppress(json.JSONDecodeError):
            # LogProcessor's log_with_hierarchy adds prefixes to names.
            lines.append(json.loads(re.sub('"(train|val)/', '"', line)))
    return lines


def replace_later(lines: List[dict], key: str, line: dict) -> None:
    """Append a line of a log, in place of those that are not before it, since
    a resumed or restarted training repeats iterations."""
    while lines and lines[-1][key] >= line[key]:
        lines.pop()
    lines.append(line)


def make_names_unique(runs: List[WorkDir]) -> None:
    """Replace names that several runs share by relative folders."""
    names = [x.name for x in runs]
    root = os.path.commonpath([x.folder.resolve().parent for x in runs])
    for run in runs:
        if names.count(run.name) > 1:
            run.name = run.folder.resolve().relative_to(root).as_posix()


def differences(runs: List[WorkDir]) -> Dict[str, List[str]]:
    """Return each run's value of the config keys in which runs differ."""
    configs = [
        {
            key: repr(value)
            for key, value in walk(run.config.to_dict())
            if key != 'work_dir'
            and not (isinstance(value, (dict, list, tuple)) and value)
        }
        for run in runs
    ]
    keys = dict.fromkeys(key for x in configs for key in x)
    rows = {key: [x.get(key, '') for x in configs] for key in keys}
    return {key: x for key, x in rows.items() if len(set(x)) > 1}
