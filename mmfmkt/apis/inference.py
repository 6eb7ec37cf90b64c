"""Loading detectors for inference."""

from copy import deepcopy
from pathlib import Path
from typing import Optional, Union

from mmengine.config import Config
from torch import nn

from mmfmkt.utils.checkpoints import running_nothing


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
    with running_nothing():
        return mmdet_init_detector(
            config,
            checkpoint,
            device=device,
            cfg_options=cfg_options,
            **kwargs,
        )
