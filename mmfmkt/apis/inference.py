"""Loading of networks for inference."""

from copy import deepcopy
from pathlib import Path
from typing import Optional, Union

from mmengine.config import Config
from torch import nn

from mmfmkt.models.distillers.networks import (
    build_network,
    drop_teacher,
    load_model_config,
    load_weights,
    without_weights,
)
from mmfmkt.utils.checkpoints import load_checkpoint, restricted_torch_load


def init_detector(
    config: Union[str, Path, Config],
    checkpoint: Optional[str] = None,
    device: str = 'cuda:0',
    **kwargs,
) -> nn.Module:
    """Load a detector from a distillation config or any other config.

    Like ``mmdet.apis.init_detector``, but without building the teacher. Use
    the result with ``mmdet.apis.inference_detector``. Exported students do
    not need this function.

    Args:
        config (str | Path | Config): Config file, or a config, which is not
            changed.
        checkpoint (str, optional): Path or URL of a checkpoint.
        device (str): Device of the detector.
        kwargs: Other arguments of ``mmdet.apis.init_detector``, such as
            ``cfg_options={'model.flow.inference_steps': 8}``.
    """
    from mmdet.apis import init_detector as mmdet_init_detector

    config = (
        deepcopy(config)
        if isinstance(config, Config)
        else Config.fromfile(config)
    )
    if 'student' in config.model:
        drop_teacher(config.model, checkpoint and load_checkpoint(checkpoint))
        # Load no pretrained weights, since the checkpoint replaces them.
        config.model.setdefault('backbone', dict(init_cfg=None))
    with restricted_torch_load():
        return mmdet_init_detector(config, checkpoint, device=device, **kwargs)


def load_network(
    config: Config, checkpoint: Optional[str], keep_teacher: bool = False
) -> nn.Module:
    """Build the deployed network of a config and load a checkpoint.

    Args:
        config (Config): Config of a distillation, of an exported student or
            of any other model.
        checkpoint (str, optional): Path or URL; None keeps the initial
            weights.
        keep_teacher (bool): Whether to build a distiller's teacher, too.

    Raises:
        ConfigError: If the checkpoint lacks tensors of the network.
    """
    model = load_model_config(config, 'model')
    if keep_teacher and model.get('teacher') is not None:
        model.teacher.pop('cache', None)
    else:
        drop_teacher(model, checkpoint and load_checkpoint(checkpoint))
    if checkpoint is None:
        return build_network(model, 'mmdet').eval()
    without_weights(model.get('student', model))
    network = build_network(model, 'mmdet')
    load_weights(network, checkpoint)
    return network.eval()
