"""Loading networks for inference."""

from copy import deepcopy
from pathlib import Path
from typing import Optional, Union

from mmengine.config import Config
from torch import nn

from mmfmkt.models.distillers.networks import (
    build_network,
    load_model_config,
    load_weights,
    without_weights,
)
from mmfmkt.utils.checkpoints import restricted_torch_load


def drop_teacher(model: dict) -> None:
    """Take the teacher out of a model config: prediction needs none.

    Args:
        model (dict): ``model`` of a config; left as it is if it has no
            teacher.
    """
    if 'student' in model and 'teacher' in model:
        model['teacher'] = None


def init_detector(
    config: Union[str, Path, Config],
    checkpoint: Optional[str] = None,
    device: str = 'cuda:0',
    cfg_options: Optional[dict] = None,
    **kwargs,
) -> nn.Module:
    """Load a detector, from a distillation's config or any other.

    ``mmdet.apis.init_detector`` without the teacher; what it returns goes
    into ``mmdet.apis.inference_detector``. Exported students need only
    MMDetection's own.

    Args:
        config (str | Path | Config): Config file or config, which is left
            as it is.
        checkpoint (str, optional): Path or URL of a checkpoint.
        device (str): Where the detector is put.
        cfg_options (dict, optional): Overrides, with dotted keys, such as
            ``{'model.flow.inference_steps': 8}``.
        kwargs: Further arguments of MMDetection's function.
    """
    from mmdet.apis import init_detector as mmdet_init_detector

    config = (
        deepcopy(config)
        if isinstance(config, Config)
        else Config.fromfile(config)
    )
    drop_teacher(config.model)
    if 'student' in config.model:
        # Pretrained weights would be replaced by the checkpoint at once.
        config.model.setdefault('backbone', dict(init_cfg=None))
    with restricted_torch_load():
        return mmdet_init_detector(
            config,
            checkpoint,
            device=device,
            cfg_options=cfg_options,
            **kwargs,
        )


def load_network(config: Config, checkpoint: Optional[str]) -> nn.Module:
    """Build what a config deploys, with the weights of a checkpoint.

    Args:
        config (Config): That of a distillation, an export or any model; a
            distillation's variant says whether its flow is deployed.
        checkpoint (str, optional): Path or URL; without one, the weights are
            those at the start of a training.

    Raises:
        ConfigError: If the checkpoint lacks tensors of it.
    """
    model = load_model_config(config, 'model')
    drop_teacher(model)
    if checkpoint is None:
        return build_network(model, 'mmdet').eval()
    network = build_network(without_weights(model), 'mmdet')
    load_weights(network, checkpoint)
    return network.eval()
