"""Probing networks with dummy inputs: levels of a tap, channels of images."""

from contextlib import contextmanager, suppress
from typing import Any, Callable, Iterator, List, Tuple

import torch
from mmengine.device import get_device
from torch import Tensor, nn

from mmfmkt.utils import ConfigError

from .taps import LevelSpec, read_taps, split_tap

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
        ConfigError: If parts of the network do not fit each other, or the
            tap has no feature maps.
    """
    (levels,), images = run_on_dummy_inputs(
        network,
        lambda images: read_taps(network, [tap], images, role),
        role,
        f'tap the neck instead of {tap!r}, or '
        if split_tap(tap)[0] not in ('neck', 'backbone')
        else '',
    )
    if any(len(x) != len(images) for x in levels):
        raise ConfigError(
            f'model.tap {tap!r} must give a map for each image, but gives '
            f'{len(levels[0])} for {len(images)} in the {role}; tap the neck.'
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
    """Run a network in eval mode on the first dummy input that it takes.

    Args:
        network (nn.Module): The network; it is left unchanged.
        function (Callable): Runs it on images.
        role (str): ``'student'`` or ``'teacher'``, for the error.
        remedy (str): What else may help, for the error.

    Returns:
        tuple: Result of the function, and the images.

    Raises:
        ConfigError: If it takes none.
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
        f'The {role} does not run as it is configured: '
        f'{reason.rstrip(".")}; {remedy}check the channels in its config '
        '(in_channels of neck and head against the output of the part before).'
    ) from errors[0]


def dummy_inputs(network: nn.Module) -> Iterator[Tensor]:
    """Yield images ``(B, C, H, W)`` that a network may take, likeliest first.

    Args:
        network (nn.Module): A detector or a classifier.
    """
    backbone = getattr(network, 'backbone', network)
    size = getattr(backbone, 'img_size', None)
    if size is None:
        patches = getattr(backbone, 'patch_embed', None)
        size = getattr(patches, 'init_input_size', None)
    # Most networks take any size. Some need larger images than these; others
    # take a single size: their own, that of ImageNet, or that of digits.
    small = 128 if getattr(network, 'head', None) is None else 64
    device = getattr(next(network.parameters(), None), 'device', None)
    for channels in likely_channels(network):
        for side in filter(None, (small, size, 384, 224, 32)):
            shape = (side, side) if isinstance(side, int) else side
            # Two, since some networks drop the axis of a batch of one.
            yield torch.zeros(2, channels, *shape, device=device)


def likely_channels(network: nn.Module) -> List[int]:
    """Return possible numbers of a network's input channels, likeliest first.

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
    # A first layer may see the pixels of a patch as channels, as Focus does.
    order = (first, 3) if first <= 4 else (3, first)
    return list(dict.fromkeys(order))


def input_channels(network: nn.Module) -> int:
    """Return the number of channels of the images that a network takes.

    Args:
        network (nn.Module): A detector or a classifier; it is left unchanged.
    """
    likely = likely_channels(network)
    if len(likely) > 1:
        # Backbones take images of any size more often than heads.
        backbone = getattr(network, 'backbone', network)
        with suppress(ConfigError):  # Probing the taps explains it.
            return run_on_dummy_inputs(network, backbone, '')[1].shape[1]
    return likely[0]


@contextmanager
def in_eval_mode(network: nn.Module) -> Iterator[None]:
    """Put a network in eval mode, and restore the mode of each module.

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
    """Run a network where it is, or on the GPU if it does not run on CPUs.

    Args:
        network (nn.Module): The network; it is on the CPU afterwards.
        function (Callable): Runs it on images.
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
