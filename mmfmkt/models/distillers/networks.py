"""Building the student and the teacher from configs and checkpoints."""

import logging
import os
from copy import deepcopy
from typing import Any, Dict, Optional, Sequence, Tuple, Union

import torch
from mmengine.config import Config, ConfigDict
from mmengine.hub import get_config
from mmengine.logging import MMLogger, print_log
from mmengine.model import BaseModule
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

from mmfmkt.utils import ConfigError
from mmfmkt.utils.checkpoints import DamagedCheckpoint, load_checkpoint
from mmfmkt.utils.schema import Positive, check_keys

from .teacher_cache import TeacherCache

ConfigSource = Union[str, dict, Config]
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


def read_config(source: ConfigSource, key: str) -> Union[dict, Config]:
    """Return the whole config that a source means.

    Args:
        source (str | dict): As `load_model_config`.
        key (str): The config key that the source stands in, for errors.

    Raises:
        ConfigError: If there is no such config.
    """
    if isinstance(source, (dict, Config)):
        return source
    if not isinstance(source, (str, os.PathLike)):
        raise ConfigError(
            f'{key} must be a config file, a packaged config or a dict, but '
            f'is {source!r}.'
        )
    source = str(source)
    try:
        if '::' in source:
            return get_config(source)
        return Config.fromfile(source)
    except FileNotFoundError as error:
        raise ConfigError(
            f'{key} {source!r} is neither a config file nor a packaged '
            "config of the form 'mmdet::folder/name.py'."
        ) from error


def load_model_config(source: ConfigSource, key: str) -> ConfigDict:
    """Return a copy of the ``model`` section that a source means.

    Args:
        source (str | dict): A config file, a packaged config
            (``'mmdet::...'``), a whole config or its ``model``.
        key (str): The config key that the source stands in, for errors.

    Raises:
        ConfigError: If there is no such config, or no model in it.
    """
    config = read_config(source, key)
    if 'model' in config:
        model = deepcopy(ConfigDict(config['model']))
        if 'data_preprocessor' in config:
            model.setdefault('data_preprocessor', config['data_preprocessor'])
        model.setdefault('_scope_', config.get('default_scope', None))
    else:
        model = deepcopy(ConfigDict(config))
    if not isinstance(model.get('type'), (str, type)):
        raise ConfigError(f"{key} holds no model: a key 'type' was expected.")
    return model


def build_network(model: dict, library: str) -> nn.Module:
    """Build a network in the scope of its own library.

    Args:
        model (dict): A ``model`` section.
        library (str): Scope to build in where the config names none.
    """
    model = ConfigDict(model)
    scope = model.pop('_scope_', None) or library
    with DefaultScope.overwrite_default_scope(scope):
        return MODELS.build(model)


def without_weights(part: Any) -> Any:
    """Take pretrained weights out of a config, wherever they are.

    Args:
        part (Any): A ``model`` section, changed in place, or what is in one.
    """
    if isinstance(part, dict):
        # Some backbones take the name of the initialiser for granted.
        if 'checkpoint' in str(part.get('init_cfg')):
            part['init_cfg'] = None
        if 'pretrained' in part:
            # A path, or, as timm has it, a flag that None is no value of.
            flag = isinstance(part['pretrained'], bool)
            part['pretrained'] = False if flag else None
        if part.get('checkpoint_path'):  # of timm
            part['checkpoint_path'] = ''
        for value in part.values():
            without_weights(value)
    elif isinstance(part, (list, tuple)):
        for value in part:
            without_weights(value)
    return part


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


def draw_weights(network: BaseModule) -> None:
    """Initialise a network that has no checkpoint.

    Some networks have parameters that nothing else sets, and some that only
    a checkpoint does.

    Args:
        network (BaseModule): The network.
    """
    logger = MMLogger.get_current_instance()
    level = logger.level
    # What it says of each parameter is worth a log in training alone.
    logger.setLevel(logging.WARNING)
    try:
        network.init_weights()
    finally:
        logger.setLevel(level)
    for parameter in network.parameters():
        # No initialiser gives such values: this is memory as it was.
        if parameter.numel() and not parameter.abs().max() < 1e3:
            nn.init.normal_(parameter, std=0.01)


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
