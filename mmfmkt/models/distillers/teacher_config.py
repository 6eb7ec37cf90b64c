"""Building a teacher from ``model.teacher`` of a config."""

import os
from typing import (
    Any,
    Dict,
    Literal,
    Optional,
    Sequence,
    Tuple,
    Union,
)

from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from mmfmkt.utils import ConfigError
from mmfmkt.utils.checkpoints import DamagedCheckpointError
from mmfmkt.utils.schema import (
    Positive,
    PositiveInt,
    check_arguments,
    check_keys,
)
from mmfmkt.utils.types import resolve_type

from .networks import (
    build_network,
    init_random_weights,
    load_config,
    load_model_config,
    load_weights,
    without_weights,
)
from .teacher_cache import TeacherCache

TEACHER_SCHEMA = dict(
    config=Union[str, dict, Config, os.PathLike],
    checkpoint=Optional[str],
    cfg_options=Optional[Dict[str, Any]],
    tap=Optional[str],
    inherit=Optional[Sequence[str]],
    dtype=Optional[Literal['float32', 'bfloat16', 'float16']],
    channels_last=bool,
    compile=Union[bool, dict],
    cache=Union[None, str, dict],
    view=Optional[dict],
    classes=Union[None, dict, Sequence[str]],
)
# Scopes of MMDetection and MMPretrain.
LIBRARIES = ('mmdet', 'mmpretrain')
VIEW_SCHEMA = dict(scale=Positive, multiple_of=PositiveInt)


def load_teacher_config(
    teacher: dict, library: str
) -> Tuple[ConfigDict, Union[dict, Config]]:
    """Return the teacher's model config with overrides, and the given config.

    Args:
        teacher (dict): ``model.teacher``; see ``TEACHER_SCHEMA``.
        library (str): Library of the student, in which a type without a scope
            is looked up first.

    Raises:
        ConfigError: If a key is missing or unknown, or if the config cannot
            be read.
    """
    settings = {k: v for k, v in teacher.items() if k != '_scope_'}
    check_keys(settings, TEACHER_SCHEMA, 'model.teacher', required=('config',))
    key = 'model.teacher.config'
    source = load_config(teacher['config'], key)
    config = Config(dict(model=load_model_config(source, key)))
    options = teacher.get('cfg_options') or {}
    config.merge_from_dict({f'model.{k}': v for k, v in options.items()})
    # The library of 'mmpretrain.ImageClassifier', or of a class, is also the
    # scope of the types in its config.
    model_type = config.model.type
    scope = getattr(model_type, '__module__', model_type).split('.')[0]
    if scope == model_type:
        scopes = (library, *LIBRARIES)
        known = (x for x in scopes if resolve_type(model_type, MODELS, x))
        scope = next(known, library)
    if scope in LIBRARIES:
        config.model.setdefault('_scope_', scope)
    return config.model, source


def build_teacher(
    model: dict, library: str, checkpoint: Optional[str]
) -> nn.Module:
    """Build a frozen teacher in eval mode.

    Args:
        model (dict): ``model`` section of the teacher's config.
        library (str): Default scope, for configs without one.
        checkpoint (str, optional): Path or URL; None: random weights, for dry
            runs.

    Raises:
        ConfigError: If the checkpoint cannot be read or downloaded, or
            belongs to another network.
    """
    if checkpoint is None:
        teacher = build_network(without_weights(model), library)
        with DefaultScope.overwrite_default_scope(library):
            init_random_weights(teacher)
    else:
        teacher = build_network(model, library)
        try:
            load_weights(teacher, checkpoint, 'model.teacher.')
        except DamagedCheckpointError as error:
            raise ConfigError(
                f'model.teacher: {str(error).rstrip(".")}: give a path or URL '
                'that can be reached, or None for a dry run with random '
                'weights.'
            ) from error
    return teacher.requires_grad_(False).eval()


def open_cache(settings: Union[None, str, dict]) -> Optional[TeacherCache]:
    """Open the cache of the teacher's outputs, or return None.

    Args:
        settings (str | dict, optional): ``model.teacher.cache``.

    Raises:
        ConfigError: If a setting is wrong or the file cannot be used.
    """
    if settings is None:
        return None
    if isinstance(settings, str):
        settings = dict(path=settings)
    settings = {k: v for k, v in settings.items() if k != '_scope_'}
    check_arguments(TeacherCache, settings, 'model.teacher.cache')
    return TeacherCache(**settings)
