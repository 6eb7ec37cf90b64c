"""Levels of a tap and channels of images, measured on dummy inputs."""

from contextlib import contextmanager, suppress
from typing import Any, Callable, Iterator, List, Tuple

import torch
from mmengine.device import get_device
from torch import Tensor, nn

from mmfmkt.utils import ConfigError

from .levels import LevelSpec
from .taps import as_levels, read_taps, split_tap

# Errors of PyTorch and mmcv for operators that are not implemented on CPUs.
UNSUPPORTED_ON_CPU = (
    'implementation for device cpu not found',
    'not implemented on CPU',
    'not compiled with GPU support',
    "with arguments from the 'CPU' backend",
)


def probe(network: nn.Module, tap: str, role: str) -> List[LevelSpec]:
    """Return channels and strides of a tap's levels.

    Args:
        network (nn.Module): The network; it is left unchanged.
        tap (str): Path of the tapped module.
        role (str): ``'student'`` or ``'teacher'``, for errors.

    Raises:
        ConfigError: If the network fails on all dummy inputs, or if the
            output of the tap is not feature maps.
    """

    def read_levels(images: Tensor) -> List[Tensor]:
        (output,) = read_taps(network, [tap], images, role)
        # Not for a student: the transformed map would have to be converted
        # back to tokens.
        return as_levels(output, tap, images if role == 'teacher' else None)

    levels, images = run_on_dummy_inputs(
        network,
        read_levels,
        role,
        f'tap the neck instead of {tap!r}, or '
        if split_tap(tap)[0] not in ('neck', 'backbone')
        else '',
    )
    if any(len(x) != len(images) for x in levels):
        raise ConfigError(
            f'model.tap {tap!r} must output one map for each image, but '
            f'outputs {len(levels[0])} for {len(images)} in the {role}; tap '
            'the neck.'
        )
    side = images.shape[-1]
    return [LevelSpec(x.shape[1], side / x.shape[-1]) for x in levels]


@torch.no_grad()
def run_on_dummy_inputs(
    network: nn.Module,
    function: Callable[[Tensor], Any],
    role: str,
    remedy: str = '',
) -> Tuple[Any, Tensor]:
    """Run a network in eval mode on the first dummy input that it accepts.

    Args:
        network (nn.Module): The network; it is left unchanged.
        function (Callable): Runs the network on images.
        role (str): ``'student'`` or ``'teacher'``, for the error.
        remedy (str): Text that the error has before its own remedy.

    Returns:
        tuple: Result of the function, and the images.

    Raises:
        ConfigError: If the network fails on all dummy inputs.
    """
    errors: List[Exception] = []
    for images in dummy_inputs(network):
        try:
            with in_eval_mode(network):
                result = run_on_supported_device(network, function, images)
            return result, images
        except ConfigError:
            raise
        except Exception as error:
            errors.append(error)
    reason = (str(errors[0]) or type(errors[0]).__name__).splitlines()[0]
    raise ConfigError(
        f'The {role} fails on dummy inputs: {reason.rstrip(".")}; {remedy}'
        'check the channels in its config: in_channels of neck and head must '
        'be the output channels of the preceding part.'
    ) from errors[0]


def dummy_inputs(network: nn.Module) -> Iterator[Tensor]:
    """Yield candidate images ``(B, C, H, W)``, the most likely ones first.

    Args:
        network (nn.Module): A detector or a classifier.
    """
    backbone = getattr(network, 'backbone', network)
    backbone = getattr(backbone, 'timm_model', backbone)
    patches = getattr(backbone, 'patch_embed', None)
    size = (
        getattr(backbone, 'img_size', None)
        or getattr(patches, 'init_input_size', None)
        or getattr(patches, 'img_size', None)
    )
    # Most networks take any size, others a single one: that of their config,
    # which is a multiple of their patches, that of ImageNet (384, 224), or
    # that of digits (32).
    small = 128 if getattr(network, 'head', None) is None else 64
    device = getattr(next(network.parameters(), None), 'device', None)
    for channels in likely_channels(network):
        for side in filter(None, (size, small, 384, 224, 32)):
            shape = (side, side) if isinstance(side, int) else side
            # Some networks drop the batch axis of a single image.
            yield torch.zeros(2, channels, *shape, device=device)


def likely_channels(network: nn.Module) -> List[int]:
    """Return candidate numbers of input channels, the most likely ones first.

    Args:
        network (nn.Module): A detector or a classifier.
    """
    preprocessor = getattr(network, 'data_preprocessor', None)
    mean = getattr(preprocessor, 'mean', None)
    if isinstance(mean, Tensor) and mean.numel() > 1:
        return [mean.numel()]
    backbone = getattr(network, 'backbone', network)
    convs = (x for x in backbone.modules() if isinstance(x, nn.Conv2d))
    first = next((x.in_channels for x in convs), 3)
    # Layers such as Focus move the pixels of a patch into channels before the
    # first convolution.
    candidates = (first, 3) if first <= 4 else (3, first)
    return list(dict.fromkeys(candidates))


def input_channels(network: nn.Module) -> int:
    """Return the number of input channels of a network.

    Args:
        network (nn.Module): A detector or a classifier; it is left unchanged.
    """
    candidates = likely_channels(network)
    if len(candidates) > 1:
        # Backbones restrict the size of images less often than heads do.
        backbone = getattr(network, 'backbone', network)
        with suppress(ConfigError):  # `probe` raises it again for the taps.
            return run_on_dummy_inputs(network, backbone, '')[1].shape[1]
    return candidates[0]


@contextmanager
def in_eval_mode(network: nn.Module) -> Iterator[None]:
    """Set a network to eval mode, and restore the mode of each module.

    Args:
        network (nn.Module): The network.
    """
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def run_on_supported_device(
    network: nn.Module, function: Callable[[Tensor], Any], images: Tensor
) -> Any:
    """Run a network on its device, or on a GPU if the CPU lacks an operator.

    Args:
        network (nn.Module): The network; a GPU run moves it back to the CPU.
        function (Callable): Runs the network on images.
        images (Tensor): ``(B, C, H, W)``.
    """
    try:
        return function(images)
    except RuntimeError as error:
        device = get_device()
        if device == 'cpu' or not any(
            x in str(error) for x in UNSUPPORTED_ON_CPU
        ):
            raise
        try:
            network.to(device)
            return function(images.to(device))
        finally:
            network.to('cpu')
