"""Probing a network without data: levels of a tap, channels of images."""

from contextlib import contextmanager, suppress
from typing import Any, Callable, Iterator, List, Tuple

import torch
from mmengine.device import get_device
from torch import Tensor, nn

from mmfmkt.utils import ConfigError

from .taps import LevelSpec, read_taps, split_tap

# What operators of PyTorch and of mmcv say that have no version for CPUs.
ONLY_ON_GPUS = (
    'implementation for device cpu not found',
    'not implemented on CPU',
    'not compiled with GPU support',
    "with arguments from the 'CPU' backend",
)


def probe(network: nn.Module, tap: str, role: str) -> List[LevelSpec]:
    """Find channels and strides of a tap by running blank images.

    Args:
        network (nn.Module): The network; it is left as it was.
        tap (str): Path of the tapped module.
        role (str): What the network is, for errors.

    Raises:
        ConfigError: If the network's own parts do not fit each other, or the
            tap is none that can be read.
    """
    try:
        (levels,), images = run_blank(
            network, lambda images: read_taps(network, [tap], images, role)
        )
    except ConfigError:
        raise
    except Exception as error:
        cure = (
            'check the channels in its config (in_channels of neck and '
            'head against what the part before gives)'
        )
        if split_tap(tap)[0] not in ('neck', 'backbone'):
            cure = f'tap the neck instead of {tap!r}, or {cure}'
        raise ConfigError(
            f'The {role} does not run as it is configured: '
            f'{reason_of(error)}; {cure}.'
        ) from error
    if any(len(x) != len(images) for x in levels):
        raise ConfigError(
            f'model.tap {tap!r} must give a map for each image, but gives '
            f'{len(levels[0])} for {len(images)} in the {role}; tap the neck.'
        )
    side = images.shape[-1]
    return [LevelSpec(x.shape[1], side / x.shape[-1]) for x in levels]


def blank_images(network: nn.Module) -> Iterator[Tensor]:
    """Images that a network may take, the likeliest first, ``(B, C, H, W)``.

    Args:
        network (nn.Module): A detector or a classifier.
    """
    backbone = getattr(network, 'backbone', network)
    size = getattr(backbone, 'img_size', None)
    if size is None:
        patches = getattr(backbone, 'patch_embed', None)
        size = getattr(patches, 'init_input_size', None)
    # Most take any size, but to some these are too small, and others take
    # one size alone: their own, that of ImageNet, or that of digits.
    small = 128 if getattr(network, 'head', None) is None else 64
    device = getattr(next(network.parameters(), None), 'device', None)
    for channels in likely_channels(network):
        for side in filter(None, (small, size, 384, 224, 32)):
            shape = (side, side) if isinstance(side, int) else side
            # Two, since some networks drop the axis of a batch of one.
            yield torch.zeros(2, channels, *shape, device=device)


def likely_channels(network: nn.Module) -> List[int]:
    """Numbers of channels that a network's images may have, likeliest first.

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
    """Return how many channels the images have that a network takes.

    Args:
        network (nn.Module): A detector or a classifier; it is left as it was.
    """
    likely = likely_channels(network)
    if len(likely) > 1:
        # Backbones take images of any size more often than heads.
        backbone = getattr(network, 'backbone', network)
        with suppress(Exception):  # that probing the taps explains
            return run_blank(network, backbone)[1].shape[1]
    return likely[0]


@torch.no_grad()
def run_blank(
    network: nn.Module, function: Callable[[Tensor], Any]
) -> Tuple[Any, Tensor]:
    """Run a network in eval mode on the first blank image that it takes.

    Args:
        network (nn.Module): The network; it is left as it was.
        function (Callable): What runs it on images.

    Returns:
        tuple: What the function gave, and the images.

    Raises:
        Exception: That of the first image, if it takes none.
    """
    errors: List[Exception] = []
    for images in blank_images(network):
        try:
            with in_eval_mode(network):
                return run_anywhere(network, function, images), images
        except ConfigError:
            raise
        except Exception as error:
            errors.append(error)
    raise errors[0]


def run_anywhere(
    network: nn.Module, function: Callable[[Tensor], Any], image: Tensor
) -> Any:
    """Run a network where it was built, or on the GPU if it runs only there.

    Args:
        network (nn.Module): The network, on the CPU after as before.
        function (Callable): What runs it on an image.
        image (Tensor): The image, ``(B, C, H, W)``.
    """
    try:
        return function(image)
    except RuntimeError as error:
        device = get_device()
        if device == 'cpu' or not any(x in str(error) for x in ONLY_ON_GPUS):
            raise
        try:
            network.to(device)
            return function(image.to(device))
        finally:
            network.to('cpu')


@contextmanager
def in_eval_mode(network: nn.Module) -> Iterator[None]:
    """Put a network in eval mode, and each module back to its own after.

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


def reason_of(error: Exception) -> str:
    """The first line of what an error says, to be part of a sentence."""
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0].rstrip('.')
