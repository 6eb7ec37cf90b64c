"""Building the student and the teacher from configs and checkpoints."""

import logging
import os
from typing import Any, Dict, Optional, Sequence, Tuple, Union

import torch
from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from mmfmkt.utils import ConfigError
from mmfmkt.utils.checkpoints import DamagedCheckpoint, load_checkpoint
from mmfmkt.utils.schema import Positive, check_keys

from .networks import (
    build_network,
    draw_weights,
    load_model_config,
    read_config,
    without_weights,
)
from .teacher_cache import TeacherCache

DTYPES = ('float32', 'bfloat16', 'float16')
TEACHER_SCHEMA = dict(
    config=Union[str, dict, Config, os.PathLike],
    checkpoint=Optional[str],
    cfg_options=Optional[Dict[str, Any]],
    tap=Optional[str],
    inherit=Optional[Sequence[str]],
    dtype=Optional[str],
    channels_last=bool,
    compile=Union[bool, dict],
    cache=Union[None, str, dict],
)
CACHE_SCHEMA = dict(path=str, max_gb=Positive)


def load_teacher_config(
    teacher: dict,
) -> Tuple[ConfigDict, Union[dict, Config]]:
    """Return the teacher's model config with its overrides, and the whole.

    Args:
        teacher (dict): ``model.teacher``: ``config`` and what else of
            ``TEACHER_SCHEMA``.

    Raises:
        ConfigError: If a key is missing or unknown.
    """
    given = {k: v for k, v in teacher.items() if k != '_scope_'}
    check_keys(given, TEACHER_SCHEMA, 'model.teacher', needed=('config',))
    whole = read_config(teacher['config'], 'model.teacher.config')
    config = Config(
        dict(model=load_model_config(whole, 'model.teacher.config'))
    )
    options = teacher.get('cfg_options') or {}
    config.merge_from_dict({f'model.{k}': v for k, v in options.items()})
    return config.model, whole


def build_teacher(
    model: dict, library: str, checkpoint: Optional[str]
) -> nn.Module:
    """Build the teacher: trained, frozen and in eval mode.

    Args:
        model (dict): Its ``model`` section.
        library (str): Scope to build in where the config names none.
        checkpoint (str, optional): Path or URL. None draws the weights at
            random, for dry runs.
    """
    if checkpoint is None:
        teacher = build_network(without_weights(model), library)
        with DefaultScope.overwrite_default_scope(library):
            draw_weights(teacher)
        print_log(
            'model.teacher.checkpoint is None: the teacher has random '
            'weights and nothing to teach.',
            logger='current',
            level=logging.WARNING,
        )
    else:
        teacher = build_network(model, library)
        load_teacher_checkpoint(teacher, checkpoint)
    return teacher.requires_grad_(False).eval()


def teacher_dtype(teacher: dict) -> Optional[torch.dtype]:
    """Return the type that the teacher computes in; None: the student's.

    Args:
        teacher (dict): ``model.teacher``.

    Raises:
        ConfigError: If it is not one of ``DTYPES``.
    """
    name = teacher.get('dtype')
    if name is None:
        return None
    if name not in DTYPES:
        raise ConfigError(
            f'model.teacher.dtype must be one of {", ".join(DTYPES)}, but is '
            f'{name!r}.'
        )
    return getattr(torch, name)


def open_cache(teacher: dict) -> Optional[TeacherCache]:
    """Open the cache of a teacher's outputs; None where none is wanted.

    Args:
        teacher (dict): ``model.teacher``.

    Raises:
        ConfigError: If the settings are wrong, or the file cannot be used.
    """
    cache = teacher.get('cache')
    if cache is None:
        return None
    settings = dict(path=cache) if isinstance(cache, str) else dict(cache)
    settings.pop('_scope_', None)
    check_keys(settings, CACHE_SCHEMA, 'model.teacher.cache', needed=('path',))
    return TeacherCache(**settings)


def compile_untapped(
    network: nn.Module, taps: Sequence[str], options: Union[bool, dict]
) -> None:
    """Compile those parts of a network in which nobody listens.

    A listener comes and goes with each iteration, which would have what it
    listens to compiled again.

    Args:
        network (nn.Module): The network.
        taps (Sequence[str]): Paths of its tapped modules.
        options (bool | dict): Those of ``torch.compile``, or True.
    """
    tapped = {tap.split('.')[0].split('[')[0] for tap in taps}
    for name, child in network.named_children():
        if name in ('backbone', 'neck') and name not in tapped:
            child.compile(**({} if options is True else options))


def load_teacher_checkpoint(teacher: nn.Module, checkpoint: str) -> None:
    """Load a checkpoint and insist that it fits.

    Args:
        teacher (nn.Module): The network to fill.
        checkpoint (str): Path or URL, as MMEngine takes them.

    Raises:
        ConfigError: If it cannot be read or fetched, or belongs to another
            network.
    """
    key = f'model.teacher.checkpoint {checkpoint!r}'
    try:
        loaded = load_checkpoint(checkpoint)
    except DamagedCheckpoint as error:
        raise ConfigError(
            f'model.teacher: {str(error).rstrip(".")}: give a path or URL '
            'that can be reached, or None for a dry run with random weights.'
        ) from error
    state = loaded.get('state_dict', loaded)
    state = {name.removeprefix('module.'): x for name, x in state.items()}
    own = len(teacher.state_dict())
    misfit = ''
    try:
        missing = [
            name
            for name in teacher.load_state_dict(state, strict=False)[0]
            if not name.endswith('num_batches_tracked')
        ]
        if missing:
            misfit = (
                f'{len(missing)} of {own} tensors are missing, the '
                f'first is {missing[0]}'
            )
    except RuntimeError as error:
        wrong = [
            line.strip()
            for line in str(error).splitlines()
            if 'size mismatch' in line
        ]
        misfit = (
            f'{len(wrong)} of {own} tensors have another shape; '
            f'{wrong[0] if wrong else error}'
        )
    if misfit:
        raise ConfigError(
            f'{key} does not fit model.teacher.config: '
            f'{misfit.rstrip(".")}; give the config that this '
            'checkpoint was trained with.'
        )


def inherited_weights(
    student: nn.Module, teacher: nn.Module, modules: Sequence[str]
) -> Dict[str, Tensor]:
    """Return the teacher's weights for modules that the student has too.

    The inheriting strategy of FGD (arXiv 2111.11837): what lies behind the
    backbone starts where the teacher's ended. Tensors of another shape, such
    as those of other classes, are left out.

    Args:
        student (nn.Module): The student.
        teacher (nn.Module): The teacher.
        modules (Sequence[str]): Paths of modules, such as ``'bbox_head'``.

    Raises:
        ConfigError: If a module is missing or nothing of it fits.
    """
    ours, theirs = student.state_dict(), teacher.state_dict()
    found: Dict[str, Tensor] = {}
    for module in modules:
        names = [name for name in ours if name.startswith(f'{module}.')]
        fitting = [
            name
            for name in names
            if name in theirs and theirs[name].shape == ours[name].shape
        ]
        if not fitting:
            what = (
                'has no tensor of a shape that the teacher has too'
                if names
                else 'is no module of the student'
            )
            raise ConfigError(
                f'model.teacher.inherit: {module!r} {what}; leave it out.'
            )
        found.update({name: theirs[name] for name in fitting})
    return found
