"""Whether a student under a distiller trains exactly as it does alone.

A config is trained for three iterations as it is, and as the student of a
distiller whose transfer weighs nothing, from the same seed. Weights, buffers,
averages, the optimizer's options and its state must then be the same, bit for
bit and name for name.
"""

from copy import deepcopy
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

import torch
from mmengine.config import Config, ConfigDict
from mmengine.hooks import EMAHook
from mmengine.hub import get_config
from mmengine.runner import Runner

from mmfmkt.apis.distill import PRESETS, THETA_PRESETS, choose_taps
from mmfmkt.apis.runner import build_runner
from mmfmkt.apis.train import complete_distillation
from mmfmkt.utils import ConfigError

from .errors import PLAIN_DONE, CannotRunError
from .recipes import tiny, without_validation

ITERATIONS = 3
FLOWS = 'flows.'


class Trained(NamedTuple):
    """What a training run leaves.

    Attributes:
        tensors (dict[str, Tensor]): Weights and buffers by name; with the
            prefixes ``ema`` and ``optimizer`` averages and moments.
        groups (dict[str, dict]): For each parameter the options of its
            group in the optimizer.
    """

    tensors: Dict[str, torch.Tensor]
    groups: Dict[str, Dict[str, Any]]


def check_equivalence(cfg: Config, size: int, folder: Path) -> dict:
    """Train a config plainly and under a distiller, and compare.

    Args:
        cfg (Config): A library's config.
        size (int): Longest side of the pictures in pixels.
        folder (Path): Folder for data and logs.

    Returns:
        dict: ``status``, ``reason`` and, of what differs, ``details``.
    """
    cfg, plain = train_plain(cfg, size, folder)

    def train_wrapped(tap: str) -> Trained:
        wrapped = distilled(cfg, 'direct', tap)
        wrapped.model.flow.loss_weight = 0.0
        return train(wrapped, f'direct at {tap}')

    try:
        direct, note = at_any_tap(cfg, train_wrapped)
    except ConfigError as error:
        return dict(status='refused', reason=str(error))
    groups, tensors = differences(plain, direct)
    if not groups and not tensors:
        return dict(status='equal', reason=note)
    found = dict(
        status='differs',
        reason='; '.join([*groups, *tensors][:2]),
        details=[*groups[:20], *tensors[:20]],
    )
    if not groups:
        again = differences(plain, train(cfg, 'again'))[1]
        if again:
            found.update(
                status='groups only',
                reason=f'plain training is not the same twice: {again[0]}',
            )
    return found


def train_plain(cfg: Config, size: int, folder: Path) -> tuple:
    """Train a small version of a config, and return it and what is left.

    Raises:
        CannotRunError: If that does not work.
    """
    try:
        cfg = without_validation(tiny(cfg, size, folder, ITERATIONS))
        plain = train(cfg, 'plain')
        broken = [x for x, t in plain.tensors.items() if not finite(t)]
        if broken:
            raise ArithmeticError(f'{broken[0]} is not finite after training')
    except Exception as error:
        raise CannotRunError from error
    print(PLAIN_DONE, flush=True)
    return cfg, plain


def at_any_tap(cfg: Config, check: Callable[[str], Any]) -> Tuple[Any, str]:
    """Check a student at the first tap that is not refused.

    A classifier has no other than its head's and its backbone's.

    Args:
        cfg (Config): The config of plain training.
        check (Callable): What is to be done at a tap.

    Returns:
        tuple: What the check returns, and why it was at another tap.

    Raises:
        ConfigError: If all are refused.
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
    """Return a config with its own model as student and as teacher.

    Args:
        cfg (Config): The config of plain training.
        variant (str): The distiller's variant.
        tap (str): A classifier's tap; a detector's are found.
    """
    presets = THETA_PRESETS if variant == 'theta' else PRESETS
    preset = presets['mmpretrain' if tap == 'head' else 'mmdet']
    settings = get_config(f'mmfmkt::_base_/{preset}.py').distiller
    whole = ConfigDict(model=deepcopy(cfg.model))
    if 'data_preprocessor' in cfg:
        whole.data_preprocessor = deepcopy(cfg.data_preprocessor)
    model = dict(
        settings,
        variant=variant,
        tap=tap,
        student=deepcopy(cfg.model),
        teacher=dict(config=whole, checkpoint=None),
    )
    if cfg.default_scope == 'mmdet':
        taps: Dict[str, Any] = dict(teacher={})
        choose_taps(Config(whole), taps, Config(whole), {})
        # What is inherited starts as the teacher's, not as in plain training.
        taps['teacher'].pop('inherit', None)
        model['teacher'].update(taps.pop('teacher'))
        model.update(taps)
    else:
        model.update(type='mmfmkt.ClassificationDistiller', levels=None)
    cfg = deepcopy(cfg)
    cfg.model = ConfigDict(model)
    return cfg


def train(cfg: Config, name: str) -> Trained:
    """Train a config, and return what is left."""
    return remains(run(cfg, name))


def run(cfg: Config, name: str) -> Runner:
    """Train a config by the way of tools/train.py.

    Args:
        cfg (Config): The config.
        name (str): What the run is called.
    """
    cfg = deepcopy(cfg)
    # MMEngine keeps loggers and the like by name: a new one for each run.
    cfg.experiment_name = f'{name} in {cfg.work_dir}'
    cfg.visualizer.name = cfg.experiment_name
    cfg.launcher = 'none'
    complete_distillation(cfg)
    runner = build_runner(cfg)
    runner.train()
    return runner


def remains(runner: Runner) -> Trained:
    """Read all that training has changed."""
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
    return Trained({x: t.detach().clone() for x, t in tensors.items()}, groups)


def differences(plain: Trained, direct: Trained) -> tuple:
    """Compare two runs; what belongs to flows is nobody else's business.

    Args:
        plain (Trained): Of plain training.
        direct (Trained): Under a distiller.

    Returns:
        tuple[list[str], list[str]]: Sentences on the options of parameters,
        and on tensors, the first and the largest difference first.
    """
    groups = names_that_differ('parameter', plain.groups, direct.groups)
    for name, options in plain.groups.items():
        theirs = direct.groups.get(name, options)
        groups += [
            f'{key} of {name} is {theirs.get(key)} instead of {value}'
            for key, value in options.items()
            if theirs.get(key) != value
        ]
        groups += [
            f'{name} has the option {key}'
            for key in theirs
            if key not in options
        ]
    tensors = names_that_differ('tensor', plain.tensors, direct.tensors)
    found = {}
    for name, tensor in plain.tensors.items():
        other = direct.tensors.get(name)
        if other is not None and not torch.equal(tensor, other):
            found[name] = distance(tensor, other)
    if found:
        first, largest = next(iter(found)), max(found, key=found.get)
        tensors.append(
            f'{len(found)} of {len(plain.tensors)} tensors differ, first '
            f'{first} by {found[first]:.2g}, most {largest} by '
            f'{found[largest]:.2g}'
        )
    return groups, tensors


def names_that_differ(what: str, plain: dict, direct: dict) -> List[str]:
    """Sentences on names that only one of two runs has."""
    missing = [name for name in plain if name not in direct]
    more = [name for name in direct if name not in plain and FLOWS not in name]
    return [
        f'{len(names)} {what}s {verb}, first {names[0]}'
        for names, verb in ((missing, 'missing'), (more, 'too many'))
        if names
    ]


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest difference of two tensors; infinite for other shapes."""
    if one.shape != other.shape:
        return float('inf')
    return (one.double() - other.double()).abs().max().item()


def finite(tensor: torch.Tensor) -> bool:
    """Whether a tensor has finite values alone."""
    return not tensor.is_floating_point() or bool(tensor.isfinite().all())
