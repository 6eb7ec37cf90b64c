"""Methods, seeds and runs of a comparison."""

import json
import re
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

from mmengine.config import Config
from mmengine.registry import HOOKS

from mmfmkt.engine.hooks import TeacherCheckHook
from mmfmkt.utils.configs import read_config
from mmfmkt.utils.files import write_atomically
from mmfmkt.utils.types import is_a

from ..train import use_amp

# Files in the work directory of a run: its config, and its state.
CONFIG = 'config.py'
RESULT = 'result.json'


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
            without training.
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
    """Methods to compare, and the metric to compare them by.

    Attributes:
        title (str): Name of the comparison, such as dataset and student.
        metric (str, optional): Name of the metric in the evaluator's output;
            None for that of `metric_of`.
        label (str): Name of the metric in tables; if empty, a name from
            ``results.LABELS``.
        results (Path): JSON file with the results of all runs.
        methods (list[Method]): The methods.
        teacher (Method, optional): Training of the teacher, whose runs are
            part of the results. None if the methods' configs have the
            teacher's checkpoint.
        amp (bool): Whether to train in mixed precision.
    """

    title: str
    metric: Optional[str]
    label: str = ''
    results: Path
    methods: List[Method]
    teacher: Optional[Method] = None
    amp: bool = False

    @property
    def all_methods(self) -> List[Method]:
        """The teacher, unless it is None, and the methods."""
        return [*([self.teacher] if self.teacher else []), *self.methods]

    def runs(self) -> List[Run]:
        """Return the runs, ordered by seed.

        An interrupted comparison then has results of all methods for the
        first seeds, so that differences can be paired.
        """
        runs = [Run(x, seed) for x in self.methods for seed in x.seeds]
        return sorted(runs, key=lambda run: run.seed)


def read_result(work_dir: Path) -> Dict[str, Any]:
    """Return the state of a run; empty if it was never started.

    Args:
        work_dir (Path): Work directory of the run.

    Returns:
        dict: ``method``, ``seed`` and ``options``; ``checkpoint`` and cost if
        it is trained; ``metrics`` by K; ``error`` if it has failed;
        environment ``on`` and time ``ended`` of its process.
    """
    path = work_dir / RESULT
    return json.loads(path.read_text()) if path.is_file() else {}


def write_result(work_dir: Path, result: Dict[str, Any]) -> None:
    """Write the state of a run."""
    write_atomically(work_dir / RESULT, json.dumps(result, indent=1))


def run_config(
    method: Method,
    seed: int,
    teacher: Optional[Mapping[str, Any]] = None,
    amp: bool = False,
) -> Config:
    """Return the config of a run, without validation during training.

    The last checkpoint is evaluated after the training.

    Args:
        method (Method): The method.
        seed (int): The seed.
        teacher (Mapping, optional): Keys of ``model.teacher`` that are set if
            the config has a teacher. Options of the method have precedence.
        amp (bool): Whether to train in mixed precision.

    Raises:
        ConfigError: If the config cannot be read.
    """
    cfg = read_config(method.config, key='the config')
    is_distiller = 'student' in cfg.model
    options = method.effective_options(is_distiller)
    if is_distiller and cfg.model.get('teacher') is not None:
        for key, value in (teacher or {}).items():
            options.setdefault(f'model.teacher.{key}', value)
    cfg.merge_from_dict({**options, 'randomness.seed': seed})
    for key in ('val_cfg', 'val_dataloader', 'val_evaluator'):
        cfg[key] = None
    scope = cfg.get('default_scope')
    # This hook needs the data of the validation.
    cfg.custom_hooks = [
        x
        for x in cfg.get('custom_hooks') or []
        if not is_a(x, [TeacherCheckHook], HOOKS, scope)
    ]
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    for key in ('save_best', 'rule'):
        hook.pop(key, None)
    if amp:
        use_amp(cfg)
    return cfg
