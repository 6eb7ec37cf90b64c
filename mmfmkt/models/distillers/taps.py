"""Taps: reading, and replacing, what a named module of a network gives."""

import difflib
import re
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import (
    Any,
    Callable,
    Dict,
    Iterator,
    List,
    Optional,
    Sequence,
    Tuple,
)

import torch
from mmengine.device import get_device
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmfmkt.utils import ConfigError

# What operators of PyTorch and of mmcv say that have no version for CPUs.
ONLY_ON_GPUS = (
    'implementation for device cpu not found',
    'not implemented on CPU',
    'not compiled with GPU support',
    "with arguments from the 'CPU' backend",
)


@dataclass
class LevelSpec:
    """One level of a tap's output.

    Attributes:
        channels (int): C.
        stride (float): Pixels of the image per pixel of the map.
    """

    channels: int
    stride: float


def split_tap(tap: str) -> Tuple[str, Optional[int]]:
    """Part ``'bbox_head[0]'`` into the module and the index of its output.

    Args:
        tap (str): Path of a module; an index in brackets, for modules that
            give several things, as dense heads give class maps and boxes.
    """
    found = re.fullmatch(r'(.*)\[(\d+)\]', str(tap))
    return (found[1], int(found[2])) if found else (str(tap), None)


def find_module(network: nn.Module, tap: str, role: str) -> nn.Module:
    """Return the module that a tap names.

    Args:
        network (nn.Module): The network to look in.
        tap (str): Such as ``'neck'``, ``'backbone.layer4'`` or
            ``'bbox_head[0]'``.
        role (str): What the network is, for the error.

    Raises:
        ConfigError: If there is no such module.
    """
    name, _ = split_tap(tap)
    try:
        if name:
            return network.get_submodule(name)
    except AttributeError:
        pass
    modules = dict(network.named_modules())
    close = difflib.get_close_matches(name, modules, n=1)
    hint = f', did you mean {close[0]!r}?' if close else ''
    children = ', '.join(child for child, _ in network.named_children())
    raise ConfigError(
        f'model.tap {tap!r} matches no module of the {role} '
        f'({type(network).__name__}: {children}){hint}'
    )


def as_levels(output: Any, tap: str) -> List[Tensor]:
    """Return a tap's output as a list of maps, one per level.

    Args:
        output (Tensor | Sequence[Tensor]): What the tapped module gave.
        tap (str): Its name, for the error.

    Raises:
        ConfigError: If the output is not made of feature maps.
    """
    _, index = split_tap(tap)
    if index is not None:
        if not isinstance(output, Sequence) or index >= len(output):
            raise ConfigError(
                f'model.tap {tap!r} asks for output {index} of a module that '
                'does not give so many.'
            )
        output = output[index]
    levels = [output] if isinstance(output, Tensor) else output
    if not isinstance(levels, Sequence) or not all(
        isinstance(level, Tensor) and level.dim() == 4 for level in levels
    ):
        raise ConfigError(
            f'model.tap {tap!r} must give a feature map (B, C, H, W) or a '
            f'sequence of them, but gives {type(output).__name__}; tap '
            'another module, or one of its outputs, as in '
            "'bbox_head[0]'."
        )
    return list(levels)


def like_output(output: Any, levels: List[Tensor], tap: str) -> Any:
    """Return levels in the form that the tapped module gave them in.

    Args:
        output (Any): What the tapped module gave.
        levels (list[Tensor]): What takes the place of the levels in it.
        tap (str): Name of the tap.
    """
    name, index = split_tap(tap)
    if index is not None:
        inner = like_output(output[index], levels, name)
        return type(output)([*output[:index], inner, *output[index + 1 :]])
    if isinstance(output, Tensor):
        return levels[0]
    return type(output)(levels)


@contextmanager
def listening(
    module: nn.Module, on_output: Callable[[Any], Any]
) -> Iterator[None]:
    """Call ``on_output`` with what a module gives, while the context lasts.

    Args:
        module (nn.Module): The tapped module.
        on_output (Callable): Gets the output; what it returns, unless None,
            takes the output's place.
    """
    handle = module.register_forward_hook(
        lambda _module, _args, output: on_output(output)
    )
    try:
        yield
    finally:
        handle.remove()


def read_taps(
    network: nn.Module,
    taps: Sequence[str],
    inputs: Tensor,
    role: str,
    data_samples: Optional[Sequence[BaseDataElement]] = None,
    stop: bool = False,
) -> List[List[Tensor]]:
    """Run a network up to its taps and return the levels of each.

    Args:
        network (nn.Module): A detector: ``extract_feat`` is enough for taps
            on backbone and neck, and a tapped output of a dense head is what
            the head makes of that; others need the whole forward pass.
        taps (Sequence[str]): Paths of the tapped modules.
        inputs (Tensor): Normalised images ``(B, C, H, W)``.
        role (str): What the network is, for errors.
        data_samples (Sequence, optional): With the sizes of the images,
            which transformers and heads of two stages ask for.
        stop (bool): Whether to run no more of the network than the taps
            need, of which it is then known that each runs once.

    Raises:
        ConfigError: If a tapped module does not run exactly once.
    """
    outputs: List[List[Any]] = [[] for _ in taps]

    def keep(found: List[Any], output: Any) -> None:
        found.append(output)
        if stop and all(outputs):
            raise Enough

    with ExitStack() as tapped:
        tapped.enter_context(suppress(Enough))
        for tap, found in zip(taps, outputs):
            module = find_module(network, tap, role)
            tapped.enter_context(listening(module, partial(keep, found)))
        features = network.extract_feat(inputs)
        for tap, found in zip(taps, outputs):
            # Detectors call the forward methods of their heads past hooks.
            if split_tap(tap)[1] is not None and not found:
                _run_head(network, tap, role, features)
        if not all(outputs):
            for found in outputs:
                found.clear()
            network(inputs, data_samples or blank_samples(inputs), 'tensor')
    for tap, found in zip(taps, outputs):
        if len(found) != 1:
            raise ConfigError(
                f'model.tap {tap!r} must run once for a batch, but ran '
                f'{len(found)} times in the {role}; tap another module, such '
                'as the neck.'
            )
    return [as_levels(found[0], tap) for tap, found in zip(taps, outputs)]


class Enough(Exception):
    """All that is wanted of a network has been seen."""


def blank_samples(inputs: Tensor) -> List[BaseDataElement]:
    """What a data loader says of images, for images of which it is all true.

    Args:
        inputs (Tensor): ``(B, C, H, W)``.
    """
    size = tuple(inputs.shape[-2:])
    sizes = dict.fromkeys(
        ('img_shape', 'ori_shape', 'pad_shape', 'batch_input_shape'), size
    )
    return [
        BaseDataElement(metainfo=dict(sizes, scale_factor=(1.0, 1.0)))
        for _ in inputs
    ]


def _run_head(network: nn.Module, tap: str, role: str, features: Any) -> None:
    try:
        find_module(network, tap, role)(features)
    except (TypeError, AttributeError) as error:
        raise ConfigError(
            f'model.tap {tap!r} must be an output of a module that reads what '
            f'the neck gives, which it does not in the {role}; tap the neck.'
        ) from error


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


def reason_of(error: Exception) -> str:
    """The first line of what an error says, to be part of a sentence."""
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0].rstrip('.')


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


def check_levels(
    levels: Optional[Sequence[int]], specs: List[LevelSpec], tap: str
) -> List[int]:
    """Return the tapped levels of the student, all where none are named.

    Raises:
        ConfigError: If there is no such level.
    """
    if levels is None:
        return list(range(len(specs)))
    for level in levels:
        if not isinstance(level, int) or not 0 <= level < len(specs):
            raise ConfigError(
                f'model.levels asks for level {level!r}, but tap {tap!r} of '
                f'the student gives the levels 0 to {len(specs) - 1}.'
            )
    if not levels or len(set(levels)) < len(levels):
        raise ConfigError(
            'model.levels must name one level or more, each '
            f'once, but is {tuple(levels)}.'
        )
    return list(levels)


def pair_levels(
    levels: Sequence[int],
    student: List[LevelSpec],
    teacher: List[LevelSpec],
    tap: str,
    teacher_tap: str,
) -> Dict[int, int]:
    """Find the teacher's level for each of the student's, by stride.

    Pyramids may start and end at different strides. Of several levels of one
    stride, as dilated backbones have them, the one at the same place counts,
    else the last.

    Args:
        levels (Sequence[int]): Tapped levels of the student.
        student (list[LevelSpec]): What the tap of the student gives.
        teacher (list[LevelSpec]): What the tap of the teacher gives.
        tap (str): Name of the student's tap, for errors.
        teacher_tap (str): Name of the teacher's tap, for errors.

    Returns:
        dict[int, int]: Level of the teacher by level of the student.

    Raises:
        ConfigError: If a level has no partner.
    """
    pairs = {}
    for level in levels:
        stride = student[level].stride
        alike = [i for i, x in enumerate(teacher) if x.stride == stride]
        if alike:
            pairs[level] = level if level in alike else alike[-1]
    if len(pairs) < len(levels):
        alone = next(x for x in levels if x not in pairs)
        theirs = ', '.join(f'{x.stride:g}' for x in teacher)
        cure = (
            f'set model.levels to {tuple(pairs)}'
            if pairs
            else 'tap other modules'
        )
        raise ConfigError(
            f'Level {alone} of tap {tap!r} has stride '
            f'{student[alone].stride:g} in the student, and tap '
            f'{teacher_tap!r} of the teacher has the strides {theirs}; '
            f'{cure}, or give the teacher the same pyramid with '
            'model.teacher.cfg_options.'
        )
    return pairs
