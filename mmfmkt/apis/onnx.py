"""A student as an ONNX file: its network, of a flow the K steps unrolled.

What the file holds is what MMEngine calls ``mode='tensor'``: a detector's
class and box maps, level by level, a classifier's logits. Decoding and
suppression, which every library does its own way, stay outside, as does the
normalization of images.
"""

from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple, Union

import torch
from mmengine.utils import digit_version
from torch import Tensor, nn

from mmfmkt.models.distillers.probing import input_channels
from mmfmkt.utils import ConfigError
from mmfmkt.utils.configs import walk
from mmfmkt.utils.extras import import_extra

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
        return tuple(tensors_of(self.model(images)).values())


def tensors_of(output: Any) -> Dict[str, Tensor]:
    """Return the tensors in nested sequences and dicts, by where they are."""
    return {
        key.replace('.', '_'): x
        for key, x in walk(output, 'output')
        if isinstance(x, Tensor)
    }


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
    import_extra('onnx', 'onnx')
    width, height = image_size
    images = torch.zeros(batch_size, input_channels(model), height, width)
    network = PlainNetwork(model)
    with torch.no_grad():
        found = tensors_of(model(images))
    if not found:
        raise ConfigError(
            f'{type(model).__name__} gives no tensors in its mode "tensor": '
            'export its parts by hand.'
        )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f'{path.stem}.part.onnx')
    options: Dict[str, Any] = dict(opset_version=opset or 17)
    # By tracing; since PyTorch 2.6 by running the code on fake tensors.
    if digit_version(torch.__version__) >= digit_version('2.6'):
        import_extra('onnxscript', 'onnx')
        options = dict(
            opset_version=opset or 18, dynamo=True, external_data=False
        )
    with torch.no_grad():
        torch.onnx.export(
            network,
            (images,),
            str(aside),
            input_names=[INPUT],
            output_names=list(found),
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
        images (Tensor): Normalized, of the size that was exported.

    Returns:
        dict: By output, the largest absolute difference.
    """
    onnxruntime = import_extra('onnxruntime', 'onnx')
    session = onnxruntime.InferenceSession(
        str(path), providers=['CPUExecutionProvider']
    )
    outputs = session.run(None, {INPUT: images.numpy()})
    return {
        name: float((x - torch.from_numpy(output)).abs().max())
        for (name, x), output in zip(
            tensors_of(model(images)).items(), outputs
        )
    }
