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
        name (str): Name of the method in the file of results.
        config (str): Path of the method's config.
        seeds (list[int]): Seeds of the trainings.
        options (dict): Overrides of the config, by dotted keys.
        inference_steps (list[int]): Numbers of sampling steps K at which the
            method is evaluated; empty if it deploys no flow.
        is_loss_without_flow (bool): Whether the method is a distillation loss
            without a flow. Other methods are compared with the best of these.
        is_baseline (bool): Whether the method is the student without a
            teacher.
        checkpoint (str, optional): Trained weights, which are evaluated
            instead of training.
        title (str): Name of the method in tables; by default ``name``.
    """

    name: str
    config: str
    seeds: List[int]
    options: Dict[str, Any] = field(default_factory=dict)
    inference_steps: List[int] = field(default_factory=list)
    is_loss_without_flow: bool = False
    is_baseline: bool = False
    checkpoint: Optional[str] = None
    title: str = ''

    @property
    def steps(self) -> List[str]:
        """Keys of the evaluations in results: each K, or ``'-'`` without a
        flow."""
        return [str(x) for x in self.inference_steps] or ['-']

    @property
    def folder(self) -> str:
        """Name of the folder with the method's runs."""
        return re.sub(r'[^\w.=-]+', '_', self.name).strip('_').lower()

    def effective_options(self, is_distiller: bool) -> Dict[str, Any]:
        """Return the options that apply to the config.

        Options of ``model`` do not apply to the config of a baseline student.

        Args:
            is_distiller (bool): Whether the config is a distillation.
        """
        return {
            key: deepcopy(value)
            for key, value in self.options.items()
            if is_distiller or not key.startswith('model.')
        }


@dataclass(frozen=True)
class Run:
    """Training and evaluation of a method with one seed.

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
        """Work directory of the run, relative to the folder of all runs."""
        return f'{self.method.folder}/{self.seed}'


@dataclass(kw_only=True)
class Comparison:
    """Methods that are compared, and the metric of the comparison.

    Attributes:
        title (str): Data, student and schedule, separated by commas.
        metric (str, optional): Name of the metric in the evaluator's output;
            None for the first metric.
        label (str): Name of the metric in tables; empty for a default.
        results (Path): JSON file of all runs.
        methods (list[Method]): The methods.
        teacher (Method, optional): Teacher, trained with one seed before the
            other methods. If it has a checkpoint, it is only evaluated. None
            if the configs name the teacher's checkpoint.
        amp (bool): Whether to train in mixed precision.
        cache (bool): Whether to cache the teacher's outputs, which saves time
            if training repeats the augmented views of an image.
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
        """Teacher, if there is one, and methods."""
        return [*([self.teacher] if self.teacher else []), *self.methods]

    def runs(
        self,
        only: Optional[Sequence[str]] = None,
        seeds: Optional[Sequence[int]] = None,
    ) -> List[Run]:
        """Return the runs, ordered by seed.

        Args:
            only (Sequence[str], optional): Names of the methods to return; by
                default all.
            seeds (Sequence[int], optional): Seeds to return; by default all.

        Raises:
            ConfigError: If ``only`` has a name that no method has.
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
        # Seed by seed: an interrupted comparison then has all methods of its
        # first seeds, whose differences can be paired.
        return sorted(found, key=lambda run: run.seed)


def trained(work_dir: Path) -> Dict[str, Any]:
    """Return checkpoint, time and memory of a finished training."""
    return json.loads((work_dir / TRAINED).read_text())


def evaluation_folder(work_dir: Path, k: str) -> Path:
    """Return the folder of an evaluation at K."""
    return work_dir / f'test_{k.strip("-")}'


def run_config(
    method: Method,
    seed: int,
    checkpoint: Optional[str] = None,
    cache: Optional[Path] = None,
) -> Config:
    """Return the config of a run, without validation during training.

    The last checkpoint is evaluated after the training.

    Args:
        method (Method): The method.
        seed (int): The seed.
        checkpoint (str, optional): Checkpoint of the teacher; by default that
            of the config.
        cache (Path, optional): Cache of the teacher's outputs.
    """
    cfg = Config.fromfile(method.config)
    is_distiller = 'student' in cfg.model
    options = method.effective_options(is_distiller)
    if is_distiller and cfg.model.get('teacher') is not None:
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
