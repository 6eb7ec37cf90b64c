"""Building networks from configs of any library."""

import logging
import os
from copy import deepcopy
from typing import Any, Union

from mmengine.config import Config, ConfigDict
from mmengine.hub import get_config
from mmengine.logging import MMLogger
from mmengine.model import BaseModule
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from mmfmkt.utils import ConfigError
from mmfmkt.utils.configs import walk

ConfigSource = Union[str, os.PathLike, dict, Config]


def read_config(source: ConfigSource, key: str) -> Union[dict, Config]:
    """Return the whole config that a source names.

    Args:
        source (str | dict): As `load_model_config`.
        key (str): Config key of the source, for errors.

    Raises:
        ConfigError: If there is no such config.
    """
    if isinstance(source, (dict, Config)):
        return source
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
    """Return a copy of the ``model`` section that a source names.

    Args:
        source (str | dict): A config file, a packaged config
            (``'mmdet::...'``), a whole config or its ``model``.
        key (str): Config key of the source, for errors.

    Raises:
        ConfigError: If there is no such config, or no model in it.
    """
    config = read_config(source, key)
    whole = isinstance(config, Config)
    model = deepcopy(ConfigDict(config.get('model', {} if whole else config)))
    if 'model' in config:
        if 'data_preprocessor' in config:
            model.setdefault('data_preprocessor', config['data_preprocessor'])
        model.setdefault('_scope_', config.get('default_scope', None))
    if not isinstance(model.get('type'), (str, type)):
        raise ConfigError(f"{key} holds no model: the key 'type' is missing.")
    return model


def build_network(model: dict, library: str) -> nn.Module:
    """Build a network in the scope of its own library.

    Args:
        model (dict): A ``model`` section.
        library (str): Default scope, for configs without one.
    """
    model = ConfigDict(model)
    scope = model.pop('_scope_', None) or library
    with DefaultScope.overwrite_default_scope(scope):
        return MODELS.build(model)


def without_weights(part: Any) -> Any:
    """Remove pretrained weights from a config, at any depth.

    Args:
        part (Any): A ``model`` section, changed in place, or a part of one.
    """
    for _, config in walk(part):
        if not isinstance(config, dict):
            continue
        # Some backbones require the key of the initializer.
        if 'checkpoint' in str(config.get('init_cfg')):
            config['init_cfg'] = None
        if 'pretrained' in config:
            # A path, or a flag, as in timm, which does not take None.
            flag = isinstance(config['pretrained'], bool)
            config['pretrained'] = False if flag else None
        if config.get('checkpoint_path'):  # of timm
            config['checkpoint_path'] = ''
    return part


def init_random_weights(network: BaseModule) -> None:
    """Initialize a network that has no checkpoint.

    Some parameters are set by no initializer, others only by a checkpoint.

    Args:
        network (BaseModule): The network.
    """
    logger = MMLogger.get_current_instance()
    level = logger.level
    # MMEngine logs each parameter, which matters in training only.
    logger.setLevel(logging.WARNING)
    try:
        network.init_weights()
    finally:
        logger.setLevel(level)
    for parameter in network.parameters():
        # No initializer gives such values: the memory is uninitialized.
        if parameter.numel() and not parameter.abs().max() < 1e3:
            nn.init.normal_(parameter, std=0.01)
