"""ONNX export of a student; the K sampling steps of its flow are unrolled.

The graph is the forward pass with MMEngine's ``mode='tensor'``: it outputs
class and box maps of each level for a detector, logits for a classifier. It
does not normalize images, decode boxes or apply NMS.
"""

from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple, Union

import torch
from mmengine.utils import digit_version
from torch import Tensor, nn

from mmfmkt.models.distillers.probing import input_channels
from mmfmkt.models.distillers.taps import dummy_samples
from mmfmkt.utils import ConfigError
from mmfmkt.utils.configs import walk
from mmfmkt.utils.error_messages import exception_chain
from mmfmkt.utils.extras import import_extra

# Name of the graph's input.
INPUT = 'images'


class TensorOutputs(nn.Module):
    """Wrapper of a model that returns a flat tuple of tensors.

    Args:
        model (nn.Module): A detector or a classifier.
        images (Tensor): Images of the size of the inputs.
    """

    def __init__(self, model: nn.Module, images: Tensor) -> None:
        super().__init__()
        self.model = model
        # While PyTorch traces, shapes are tensors.
        self.samples = dummy_samples(images)
        self.eval()

    def forward(self, images: Tensor) -> Tuple[Tensor, ...]:
        """Run the model in tensor mode.

        Args:
            images (Tensor): Normalized images, ``(B, C, H, W)``.
        """
        outputs = output_tensors(self.model, images, self.samples)
        return tuple(outputs.values())


def output_tensors(
    model: nn.Module, images: Tensor, samples: Optional[List[Any]] = None
) -> Dict[str, Tensor]:
    """Return the outputs of a model in tensor mode by name."""
    output = model(images, samples or dummy_samples(images))
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
    """Export a model as ONNX.

    Args:
        model (nn.Module): A detector or classifier, in eval mode.
        path (str | Path): Output file.
        image_size (tuple[int, int]): Width and height, static in the graph.
        batch_size (int): Batch size, static in the graph.
        opset (int, optional): ONNX opset version. Default: 18, or 17 before
            PyTorch 2.6.

    Returns:
        dict: Shapes of the outputs by name.

    Raises:
        ConfigError: If the model returns no tensors or cannot be exported.
    """
    import_extra('onnx', 'onnx')
    width, height = image_size
    images = torch.zeros(batch_size, input_channels(model), height, width)
    network = TensorOutputs(model, images)
    with torch.no_grad():
        outputs = output_tensors(model, images)
    if not outputs:
        raise ConfigError(
            f'{type(model).__name__} returns no tensors with mode="tensor" '
            'and cannot be exported.'
        )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'{path.stem}.part.onnx')
    options: Dict[str, Any] = dict(opset_version=opset or 17)
    # TorchScript tracing before PyTorch 2.6, torch.export (dynamo) since then.
    if digit_version(torch.__version__) >= digit_version('2.6'):
        import_extra('onnxscript', 'onnx')
        options = dict(
            opset_version=opset or 18, dynamo=True, external_data=False
        )
    try:
        with torch.no_grad():
            torch.onnx.export(
                network,
                (images,),
                str(temporary),
                input_names=[INPUT],
                output_names=list(outputs),
                **options,
            )
    except Exception as error:  # PyTorch raises several types
        *_, cause = exception_chain(error)
        reason = str(cause).strip().split('\n')[0] or type(cause).__name__
        raise ConfigError(
            f'torch.onnx cannot export {type(model).__name__}: {reason} '
            '(MMDeploy exports most two-stage detectors).'
        ) from error
    temporary.replace(path)
    return {name: list(x.shape) for name, x in outputs.items()}


@torch.no_grad()
def largest_difference(
    model: nn.Module, path: Union[str, Path], images: Tensor
) -> Dict[str, float]:
    """Compare a model with its ONNX file in ONNX Runtime on the CPU.

    Args:
        model (nn.Module): The model.
        path (str | Path): ONNX file.
        images (Tensor): Normalized images of the exported size.

    Returns:
        dict: Maximum absolute difference by output.
    """
    onnxruntime = import_extra('onnxruntime', 'onnx')
    session = onnxruntime.InferenceSession(
        str(path), providers=['CPUExecutionProvider']
    )
    outputs = session.run(None, {INPUT: images.numpy()})
    return {
        name: float((x - torch.from_numpy(output)).abs().max())
        for (name, x), output in zip(
            output_tensors(model, images).items(), outputs
        )
    }
