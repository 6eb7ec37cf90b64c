"""Building networks from configs of any library, and loading weights."""

import logging
import os
import re
from copy import deepcopy
from typing import Any, Dict, Optional, Set, Union

from mmengine.config import Config, ConfigDict
from mmengine.logging import MMLogger
from mmengine.model import BaseModule
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from mmfmkt.utils import ConfigError
from mmfmkt.utils.checkpoints import load_checkpoint, state_dict_of
from mmfmkt.utils.configs import read_config, walk

ConfigSource = Union[str, os.PathLike, dict, Config]


def load_config(source: ConfigSource, key: str) -> Union[dict, Config]:
    """Return a config, which is read if the source is a path.

    Args:
        source (str | dict): See `load_model_config`.
        key (str): Config key of the source, for errors.

    Raises:
        ConfigError: If the config does not exist or cannot be read.
    """
    if isinstance(source, (dict, Config)):
        return source
    source = str(source)
    config = read_config(source, key=key)
    if '::' in source and not config.get('default_scope'):
        # Not every packaged config names its library.
        config.model.setdefault('_scope_', source.split('::')[0])
    return config


def load_model_config(source: ConfigSource, key: str) -> ConfigDict:
    """Return a copy of the ``model`` section of a config.

    Args:
        source (str | dict): A config file, a packaged config
            (``'mmdet::...'``), a whole config or its ``model`` section.
        key (str): Config key of the source, for errors.

    Raises:
        ConfigError: If the config cannot be read or has no model.
    """
    config = load_config(source, key)
    # A dict without the key model is itself a model section.
    default = {} if isinstance(config, Config) else config
    model = deepcopy(ConfigDict(config.get('model', default)))
    if 'model' in config:
        if 'data_preprocessor' in config:
            # A copy: MMPretrain's classifiers change the dict.
            preprocessor = deepcopy(config['data_preprocessor'])
            model.setdefault('data_preprocessor', preprocessor)
        if config.get('default_scope'):
            model.setdefault('_scope_', config['default_scope'])
    if not isinstance(model.get('type'), (str, type)):
        raise ConfigError(f"{key} holds no model: the key 'type' is missing.")
    return model


def build_network(model: dict, library: str) -> nn.Module:
    """Build a network in the scope of its library.

    Args:
        model (dict): A ``model`` section.
        library (str): Default scope, for configs without one.
    """
    model = ConfigDict(model)
    scope = model.pop('_scope_', None) or library
    with DefaultScope.overwrite_default_scope(scope):
        return MODELS.build(model)


def build_student(
    source: ConfigSource,
    data_preprocessor: Optional[dict],
    backbone: Optional[dict],
    library: str,
) -> nn.Module:
    """Build the student of a distiller.

    Args:
        source (str | dict): ``model.student``.
        data_preprocessor (dict, optional): Its preprocessor, if its config
            has none.
        backbone (dict, optional): Overrides of its backbone.
        library (str): Default scope.
    """
    model = load_model_config(source, 'model.student')
    if data_preprocessor is not None:
        model.setdefault('data_preprocessor', data_preprocessor)
    if backbone is not None:
        model.backbone.update(backbone)
    return build_network(model, library)


def without_weights(config: Any) -> Any:
    """Remove pretrained weights from a config, at any depth.

    Args:
        config (Any): A ``model`` section or a part of one, changed in place.
    """
    for _, section in walk(config):
        if not isinstance(section, dict):
            continue
        # Some backbones require the key init_cfg.
        if 'checkpoint' in str(section.get('init_cfg')):
            section['init_cfg'] = None
        if 'pretrained' in section:
            # A path, or a flag as in timm, which does not accept None.
            is_flag = isinstance(section['pretrained'], bool)
            section['pretrained'] = False if is_flag else None
        if section.get('checkpoint_path'):  # timm
            section['checkpoint_path'] = ''
    return config


def drop_teacher(model: dict, checkpoint: Optional[dict] = None) -> None:
    """Remove the teacher from a ``model`` section, in place.

    Args:
        model (dict): A ``model`` section, of a distiller or any other model.
        checkpoint (dict, optional): Content of the distiller's checkpoint. If
            the levels of a tap are those that the teacher has as well, they
            are set to the levels of the checkpoint.
    """
    if 'student' not in model:
        return
    model['teacher'] = None
    trained: Dict[str, Set[int]] = {}
    checkpoint = checkpoint or {}
    for name in checkpoint.get('state_dict', checkpoint):
        if match := re.match(r'(?:module\.)?flows\.([^.]+)\.(\d+)\.', name):
            trained.setdefault(match[1], set()).add(int(match[2]))
    for section in model.get('taps') or [model]:
        if section.get('levels') is None and trained:
            tap = section.get('tap') or next(iter(trained))
            levels = trained.get(tap.replace('.', '-'))
            section['levels'] = levels and sorted(levels)


def init_random_weights(network: BaseModule) -> None:
    """Initialize a network without a checkpoint.

    Parameters that have no initializer and contain uninitialized memory are
    drawn from a normal distribution.

    Args:
        network (BaseModule): The network.
    """
    logger = MMLogger.get_current_instance()
    level = logger.level
    # MMEngine logs the initialization of each parameter as INFO.
    logger.setLevel(logging.WARNING)
    try:
        network.init_weights()
    finally:
        logger.setLevel(level)
    for parameter in network.parameters():
        # No initializer gives such large values: the memory is uninitialized.
        if parameter.numel() and not parameter.abs().max() < 1e3:
            nn.init.normal_(parameter, std=0.01)


def load_weights(
    network: nn.Module, checkpoint: str, section: str = ''
) -> None:
    """Load a checkpoint, which must have all tensors of a network.

    Further tensors of the checkpoint are ignored. A checkpoint may also have
    the tensors of the backbone alone, with the names that they have there.

    Args:
        network (nn.Module): The network.
        checkpoint (str): Path or URL in any form that MMEngine accepts.
        section (str): Section of the config with the keys ``config`` and
            ``checkpoint``, followed by a dot, for errors.

    Raises:
        ConfigError: If the checkpoint cannot be read or downloaded, or
            belongs to another network.
    """
    state = state_dict_of(load_checkpoint(checkpoint))
    expected = network.state_dict()
    for prefix in ('', 'backbone.', 'backbone.timm_model.'):
        prefixed = {
            prefix + name.removeprefix('module.'): x
            for name, x in state.items()
        }
        if not expected.keys().isdisjoint(prefixed):
            state = prefixed
            break
    mismatch = ''
    try:
        missing = [
            name
            for name in network.load_state_dict(state, strict=False)[0]
            if not name.endswith('num_batches_tracked')
        ]
        if missing:
            mismatch = f'{len(missing)} tensors are missing: {missing[0]}'
    except RuntimeError as error:
        # A title, followed by one line for each tensor of another shape.
        mismatch = str(error).splitlines()[-1].strip().rstrip('.')
    if mismatch:
        raise ConfigError(
            f'{section}checkpoint {checkpoint!r} does not fit '
            f'{section}config: {mismatch}; give the config that this '
            'checkpoint was trained with.'
        )
