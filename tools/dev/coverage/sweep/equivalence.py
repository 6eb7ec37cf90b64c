"""Check that a distiller with loss weight 0 does not change the training.

A config is trained for three iterations without a distiller, and as the
student of a distiller with loss weight 0, from the same seed. Weights,
buffers, moving averages, and options and state of the optimizer must have the
same names and bit-identical values.
"""

from copy import deepcopy
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

import torch
from mmengine.config import Config, ConfigDict
from mmengine.hooks import EMAHook
from mmengine.hub import get_config
from mmengine.runner import Runner

from mmfmkt.apis.choose_taps import choose_taps, preset_of
from mmfmkt.apis.runner import build_runner
from mmfmkt.apis.train import complete_distillation
from mmfmkt.utils import ConfigError

from .errors import BASELINE_DONE, CannotRunError
from .recipes import tiny, without_validation

ITERATIONS = 3
# Part of the names of the transfers' parameters (flows and transforms): the
# distiller keeps all transfers in `flows`, also those without a flow.
TRANSFERS = 'flows.'


class TrainingState(NamedTuple):
    """State after a training run.

    Attributes:
        tensors (dict[str, Tensor]): Weights and buffers by name; moving
            averages have the prefix ``ema``, optimizer states
            ``optimizer``.
        groups (dict[str, dict]): Options of each parameter's group in the
            optimizer, by the parameter's name.
    """

    tensors: Dict[str, torch.Tensor]
    groups: Dict[str, Dict[str, Any]]


def check_equivalence(cfg: Config, size: int, folder: Path) -> dict:
    """Train a config with and without a distiller, and compare.

    Args:
        cfg (Config): Config from MMDetection or MMPretrain.
        size (int): Longest side of the images in pixels.
        folder (Path): Folder for data and logs.

    Returns:
        dict: ``reason`` and ``status``, and with ``'differs'`` also
        ``details``, a list of the differences. The status is one of

        - ``'equal'``: all values are bit-identical.
        - ``'groups equal'``: the optimizer's parameter groups are equal, but
          weights cannot be compared, because training without a teacher is
          not reproducible.
        - ``'differs'``: a name or value differs.
        - ``'refused'``: the distiller accepts the model at no tap.

    Raises:
        CannotRunError: If the config does not train without a distiller.
    """
    cfg, baseline = train_baseline(cfg, size, folder)

    def train_student(tap: str) -> TrainingState:
        distillation = distilled(cfg, 'direct', tap)
        distillation.model.flow.loss_weight = 0.0
        return train(distillation, f'direct at {tap}')

    try:
        student, note = at_any_tap(cfg, train_student)
    except ConfigError as error:
        return dict(status='refused', reason=str(error))
    groups, tensors = differences(baseline, student)
    if not groups and not tensors:
        return dict(status='equal', reason=note)
    if not groups:
        repeated = differences(baseline, train(cfg, 'repeated'))[1]
        if repeated:
            reason = (
                'training without a teacher is not reproducible: '
                f'{repeated[0]}'
            )
            return dict(status='groups equal', reason=reason)
    details = [*groups[:20], *tensors[:20]]
    reason = '; '.join([*groups, *tensors][:2])
    return dict(status='differs', reason=reason, details=details)


def train_baseline(cfg: Config, size: int, folder: Path) -> tuple:
    """Train a small version of a config without a distiller.

    Returns:
        tuple[Config, TrainingState]: The small config, and the state after it.

    Raises:
        CannotRunError: If the training fails.
    """
    try:
        cfg = without_validation(tiny(cfg, size, folder, ITERATIONS))
        baseline = train(cfg, 'baseline')
        for name, tensor in baseline.tensors.items():
            if not tensor.isfinite().all():
                raise ArithmeticError(f'{name} is not finite after training')
    except Exception as error:
        raise CannotRunError from error
    print(BASELINE_DONE, flush=True)
    return cfg, baseline


def at_any_tap(cfg: Config, check: Callable[[str], Any]) -> Tuple[Any, str]:
    """Check a student at the first tap that is accepted.

    Detectors are tapped at the neck; classifiers at the head or, if this is
    refused, at the backbone.

    Args:
        cfg (Config): Config without a distiller.
        check (Callable): Function of the tap.

    Returns:
        tuple[Any, str]: Result of the function, and why the first tap was
        not used.

    Raises:
        ConfigError: If every tap is refused.
    """
    if cfg.default_scope == 'mmdet':
        return check('neck'), ''
    try:
        return check('head'), ''
    except ConfigError as error:
        note = f'at the head: {error}'
    try:
        return check('backbone'), f'at the backbone, since {note}'
    except ConfigError as error:
        raise ConfigError(f'{note} At the backbone: {error}') from error


def distilled(cfg: Config, variant: str, tap: str) -> Config:
    """Return a config that distills a model from a copy of itself.

    Args:
        cfg (Config): Config without a distiller.
        variant (str): Variant of the distiller.
        tap (str): Tap of a classifier. Ignored for detectors, whose taps
            `choose_taps` selects.
    """
    preset = preset_of(variant, tap)
    settings = get_config(f'mmfmkt::_base_/{preset}.py').distiller
    teacher = ConfigDict(model=deepcopy(cfg.model))
    if 'data_preprocessor' in cfg:
        teacher.data_preprocessor = deepcopy(cfg.data_preprocessor)
    model = dict(
        settings,
        variant=variant,
        tap=tap,
        student=deepcopy(cfg.model),
        teacher=dict(config=teacher, checkpoint=None),
    )
    if cfg.default_scope == 'mmdet':
        section: Dict[str, Any] = dict(teacher=model['teacher'])
        # The teacher has the student's config.
        choose_taps(Config(teacher), 'mmdet', section)
        # Inherited weights would change the start of the training.
        section['teacher'].pop('inherit', None)
        model.update(section)
    else:
        model.update(type='mmfmkt.ClassificationDistiller', levels=None)
    cfg = deepcopy(cfg)
    cfg.model = ConfigDict(model)
    return cfg


def train(cfg: Config, name: str) -> TrainingState:
    """Train a config, and return the state after it."""
    return state_of(run(cfg, name))


def run(cfg: Config, name: str) -> Runner:
    """Train a config as tools/train.py does.

    Args:
        cfg (Config): Config to train.
        name (str): Name of the run.
    """
    cfg = deepcopy(cfg)
    # MMEngine keeps loggers and visualizers by name: a new one for each run.
    cfg.experiment_name = f'{name} in {cfg.work_dir}'
    cfg.visualizer.name = cfg.experiment_name
    cfg.launcher = 'none'
    complete_distillation(cfg)
    runner = build_runner(cfg)
    runner.train()
    return runner


def state_of(runner: Runner) -> TrainingState:
    """Return weights, moving averages and optimizer state after a run."""
    tensors = dict(runner.model.state_dict())
    for hook in runner.hooks:
        if isinstance(hook, EMAHook):
            average = hook.ema_model.module.state_dict()
            tensors.update({f'ema.{x}': t for x, t in average.items()})
    names = {id(p): name for name, p in runner.model.named_parameters()}
    optimizer = runner.optim_wrapper.optimizer
    groups = {}
    for group in optimizer.param_groups:
        options = {key: x for key, x in group.items() if key != 'params'}
        for parameter in group['params']:
            groups[names[id(parameter)]] = options
            for key, value in optimizer.state[parameter].items():
                if isinstance(value, torch.Tensor):
                    name = f'optimizer.{names[id(parameter)]}.{key}'
                    tensors[name] = value
    return TrainingState(
        {x: t.detach().clone() for x, t in tensors.items()}, groups
    )


def differences(baseline: TrainingState, student: TrainingState) -> tuple:
    """Compare two runs, except parameters of the transfers.

    Args:
        baseline (TrainingState): State without a distiller.
        student (TrainingState): State with a distiller.

    Returns:
        tuple[list[str], list[str]]: Differences of optimizer options, and
        of tensors.
    """
    groups = name_differences('parameter', baseline.groups, student.groups)
    for name, options in baseline.groups.items():
        others = student.groups.get(name, options)
        groups += [
            f'{key} of {name} is {others.get(key)} instead of {value}'
            for key, value in options.items()
            if others.get(key) != value
        ]
        groups += [
            f'{name} has the option {key}'
            for key in others
            if key not in options
        ]
    tensors = name_differences('tensor', baseline.tensors, student.tensors)
    distances = {}
    for name, tensor in baseline.tensors.items():
        other = student.tensors.get(name)
        if other is not None and not torch.equal(tensor, other):
            distances[name] = distance(tensor, other)
    if distances:
        first = next(iter(distances))
        largest = max(distances, key=distances.get)
        tensors.append(
            f'{len(distances)} of {len(baseline.tensors)} tensors differ, '
            f'first {first} by {distances[first]:.2g}, largest {largest} by '
            f'{distances[largest]:.2g}'
        )
    return groups, tensors


def name_differences(
    item_type: str, baseline: dict, student: dict
) -> List[str]:
    """Describe names that only one of two runs has."""
    missing = [name for name in baseline if name not in student]
    unexpected = [
        name
        for name in student
        if name not in baseline and TRANSFERS not in name
    ]
    return [
        f'{len(names)} {item_type}s {verb}, first {names[0]}'
        for names, verb in ((missing, 'missing'), (unexpected, 'unexpected'))
        if names
    ]


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return the largest absolute difference; infinite if shapes differ."""
    if one.shape != other.shape:
        return float('inf')
    return (one.double() - other.double()).abs().max().item()
