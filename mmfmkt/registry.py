"""Registries of scope ``mmfmkt``, children of MMEngine's roots.

A config names what they hold as ``mmfmkt.Name``; inside ``model.flow`` the
prefix may be left out.
"""

from typing import Union

from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import Registry
from torch import nn

MODELS = Registry(
    'model',
    parent=MMENGINE_MODELS,
    scope='mmfmkt',
    locations=['mmfmkt.models'])
HOOKS = Registry(
    'hook',
    parent=MMENGINE_HOOKS,
    scope='mmfmkt',
    locations=['mmfmkt.engine'])


def build_part(cfg: Union[dict, nn.Module], **defaults) -> nn.Module:
    """Build a part of a flow, whatever the default scope of the run is.

    Args:
        cfg (dict | nn.Module): Config with ``type``, or a built module.
        defaults: Arguments that ``cfg`` may override.
    """
    if isinstance(cfg, nn.Module):
        return cfg
    return MODELS.build({**defaults, **cfg, '_scope_': 'mmfmkt'})
