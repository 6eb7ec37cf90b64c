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

from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmfmkt.utils import ConfigError


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
