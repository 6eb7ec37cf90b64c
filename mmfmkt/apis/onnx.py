"""A student as an ONNX file: its network, of a flow the K steps unrolled.

What the file holds is what MMEngine calls ``mode='tensor'``: a detector's
class and box maps, level by level, a classifier's logits. Decoding and
suppression, which every library does its own way, stay outside, as does the
normalisation of images.
"""

from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple, Union

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.utils import digit_version
from torch import Tensor, nn

from mmfmkt.models.distillers.networks import without_weights
from mmfmkt.models.distillers.probing import input_channels
from mmfmkt.registry import MODELS
from mmfmkt.utils import ConfigError
from mmfmkt.utils.checkpoints import load_checkpoint
from mmfmkt.utils.extras import imported

from .inference import drop_teacher

INPUT = 'images'


class PlainNetwork(nn.Module):
    """A model's ``tensor`` mode, whose outputs are one tuple of tensors.

    Args:
        model (nn.Module): A detector or a classifier.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.eval()

    def forward(self, images: Tensor) -> Tuple[Tensor, ...]:
        """Run it.

        Args:
            images (Tensor): Normalized, ``(B, C, H, W)``.
        """
        return tuple(x for _, x in tensors_of(self.model(images), 'output'))


def tensors_of(output: Any, name: str) -> Iterator[Tuple[str, Tensor]]:
    """Tensors in nested sequences and dicts, each with where it was."""
    if isinstance(output, Tensor):
        yield name, output
    elif isinstance(output, dict):
        for key, value in output.items():
            yield from tensors_of(value, f'{name}_{key}')
    elif isinstance(output, (list, tuple)):
        for index, value in enumerate(output):
            yield from tensors_of(value, f'{name}_{index}')


def load_network(config: Config, checkpoint: str) -> nn.Module:
    """Build what a config deploys, with the weights of a checkpoint.

    Args:
        config (Config): That of a distillation, an export or any model; a
            distillation's variant says whether its flow is deployed.
        checkpoint (str): Path or URL.

    Raises:
        ConfigError: If the checkpoint lacks tensors of it.
    """
    cfg = config.copy()
    drop_teacher(cfg.model)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        model = MODELS.build(without_weights(cfg.model))
    loaded = load_checkpoint(checkpoint)
    missing = model.load_state_dict(
        loaded.get('state_dict', loaded), strict=False
    )[0]
    missing = [x for x in missing if not x.endswith('num_batches_tracked')]
    if missing:
        raise ConfigError(
            f'The checkpoint {checkpoint!r} is not of this config: '
            f'{len(missing)} tensors are missing, the first is {missing[0]}.'
        )
    return model.eval()


def export_onnx(
    model: nn.Module,
    path: Union[str, Path],
    image_size: Tuple[int, int],
    batch_size: int = 1,
    opset: Optional[int] = None,
) -> Dict[str, List[int]]:
    """Write a model's network as ONNX.

    Args:
        model (nn.Module): A detector or classifier, in eval mode.
        path (str | Path): The file.
        image_size (tuple[int, int]): Width and height, which are fixed.
        batch_size (int): Images at once, fixed as well.
        opset (int, optional): Version of ONNX's operators; by default 18,
            or, before PyTorch 2.6, 17.

    Returns:
        dict: Outputs by name, with their shapes.

    Raises:
        ConfigError: If the network does not run on such an image.
    """
    imported('onnx', 'onnx')
    width, height = image_size
    images = torch.zeros(batch_size, input_channels(model), height, width)
    network = PlainNetwork(model)
    with torch.no_grad():
        found = dict(tensors_of(model(images), 'output'))
    if not found:
        raise ConfigError(
            f'{type(model).__name__} gives no tensors in its mode "tensor": '
            'export its parts by hand.'
        )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f'{path.stem}.part.onnx')
    # Since PyTorch 2.6 by running the code on fake tensors; by tracing before.
    modern = digit_version(torch.__version__) >= digit_version('2.6')
    if modern:
        imported('onnxscript', 'onnx')
    options: Dict[str, Any] = {}
    if modern:
        options = dict(dynamo=True, external_data=False)
    with torch.no_grad():
        torch.onnx.export(
            network,
            (images,),
            str(aside),
            input_names=[INPUT],
            output_names=list(found),
            opset_version=opset or (18 if modern else 17),
            **options,
        )
    aside.replace(path)
    return {name: list(x.shape) for name, x in found.items()}


@torch.no_grad()
def largest_difference(
    model: nn.Module, path: Union[str, Path], images: Tensor
) -> Dict[str, float]:
    """Compare a model with its ONNX file in ONNX Runtime, on a CPU.

    Args:
        model (nn.Module): The model.
        path (str | Path): The file.
        images (Tensor): Normalised, of the size that was exported.

    Returns:
        dict: By output, the largest absolute difference.
    """
    onnxruntime = imported('onnxruntime', 'onnx')
    session = onnxruntime.InferenceSession(
        str(path), providers=['CPUExecutionProvider']
    )
    theirs = session.run(None, {INPUT: images.numpy()})
    ours = tensors_of(model(images), 'output')
    return {
        name: float((mine - torch.from_numpy(other)).abs().max())
        for (name, mine), other in zip(ours, theirs)
    }
