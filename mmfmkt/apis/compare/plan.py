"""Methods, seeds and runs of a comparison."""

import json
import re
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from mmengine.config import Config

from mmfmkt.utils import ConfigError
from mmfmkt.utils.schema import did_you_mean

# Files in the work directory of a run.
CONFIG = 'config.py'
RESULT = 'result.json'
TRAINED = 'trained.json'


@dataclass
class Method:
    """A method of a comparison.

    Attributes:
        name (str): Its name in results.
        config (str): Path of its config.
        seeds (list[int]): Seeds that it is trained with.
        options (dict): Overrides of the config, by dotted keys.
        inference_steps (list[int]): K that it is evaluated at; empty where
            it deploys no flow.
        plain_metric (bool): Whether it is a distillation loss without a flow,
            the best of which is a reference for the others.
        student (bool): Whether it is the student without a teacher.
        checkpoint (str, optional): Trained weights, which are evaluated
            instead of training.
        title (str): Its name in tables; by default ``name``.
    """

    name: str
    config: str
    seeds: List[int]
    options: Dict[str, Any] = field(default_factory=dict)
    inference_steps: List[int] = field(default_factory=list)
    plain_metric: bool = False
    student: bool = False
    checkpoint: Optional[str] = None
    title: str = ''

    @property
    def steps(self) -> List[str]:
        """K that it is evaluated at, as results name them."""
        return [str(x) for x in self.inference_steps] or ['-']

    @property
    def folder(self) -> str:
        """Name of the folder of its runs."""
        return re.sub(r'[^\w.=-]+', '_', self.name).strip('_').lower()

    def applied(self, distils: bool) -> Dict[str, Any]:
        """Return the options that apply: a baseline student has no flow.

        Args:
            distils (bool): Whether the config is a distillation.
        """
        return {
            key: deepcopy(value)
            for key, value in self.options.items()
            if distils or not key.startswith('model.')
        }


@dataclass(frozen=True)
class Run:
    """A method with a seed.

    Attributes:
        method (Method): The method.
        seed (int): The seed.
    """

    method: Method
    seed: int

    def __str__(self) -> str:
        return f'{self.method.name}, seed {self.seed}'

    @property
    def folder(self) -> str:
        """Name of its work directory."""
        return f'{self.method.folder}/{self.seed}'


@dataclass(kw_only=True)
class Comparison:
    """Methods that are compared, and by what.

    Attributes:
        title (str): Data, student and schedule, in a line.
        metric (str, optional): Name of the metric, as the evaluator gives it;
            None for the first.
        label (str): Its name in tables.
        results (Path): JSON file of all runs.
        methods (list[Method]): The methods.
        teacher (Method, optional): Teacher of one seed that is trained before
            the others; it is evaluated only where it has a checkpoint. None
            where the configs name the teacher's checkpoint.
        amp (bool): Whether to train in mixed precision.
        cache (bool): Whether to cache the teacher's outputs, which pays off
            where training repeats views of an image.
    """

    title: str
    metric: Optional[str]
    label: str
    results: Path
    methods: List[Method]
    teacher: Optional[Method] = None
    amp: bool = False
    cache: bool = True

    @property
    def all_methods(self) -> List[Method]:
        """The teacher, if it is a method, and the methods."""
        return [*([self.teacher] if self.teacher else []), *self.methods]

    def runs(
        self,
        only: Optional[Sequence[str]] = None,
        seeds: Optional[Sequence[int]] = None,
    ) -> List[Run]:
        """Return the runs, seed by seed.

        Args:
            only (Sequence[str], optional): Names of methods.
            seeds (Sequence[int], optional): Seeds.

        Raises:
            ConfigError: If there is no method of a name.
        """
        names = [x.name for x in self.methods]
        for name in only or ():
            if name not in names:
                raise ConfigError(
                    f'--only: there is no method {name!r}'
                    f'{did_you_mean(name, names)}.'
                )
        found = [
            Run(method, seed)
            for method in self.methods
            for seed in method.seeds
            if (not only or method.name in only)
            and (not seeds or seed in seeds)
        ]
        # An interrupted comparison has whole seeds, which can be paired.
        return sorted(found, key=lambda run: run.seed)


def trained(place: Path) -> Dict[str, Any]:
    """Return checkpoint, time and memory of a finished training."""
    return json.loads((place / TRAINED).read_text())


def evaluation_folder(place: Path, k: str) -> Path:
    """Return the folder of an evaluation at K."""
    return place / f'test_{k.strip("-")}'


def run_config(
    method: Method,
    seed: int,
    checkpoint: Optional[str] = None,
    cache: Optional[Path] = None,
) -> Config:
    """Return the config of a run; the last epoch is evaluated afterwards.

    Args:
        method (Method): The method.
        seed (int): The seed.
        checkpoint (str, optional): The teacher's, in place of the config's.
        cache (Path, optional): Cache of the teacher's outputs.
    """
    cfg = Config.fromfile(method.config)
    distils = 'student' in cfg.model
    options = method.applied(distils)
    if distils and cfg.model.get('teacher') is not None:
        if checkpoint is not None:
            options['model.teacher.checkpoint'] = checkpoint
        if cache is not None:
            options.setdefault('model.teacher.cache', str(cache))
    cfg.merge_from_dict({**options, 'randomness.seed': seed})
    for key in ('val_cfg', 'val_dataloader', 'val_evaluator'):
        cfg[key] = None
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    hook.pop('save_best', None)
    return cfg
