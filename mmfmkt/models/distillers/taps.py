"""Taps: modules of a network whose outputs are read and replaced."""

import re
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import (
    Any,
    Callable,
    Iterator,
    List,
    Optional,
    Sequence,
    Tuple,
)

from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmfmkt.utils import ConfigError
from mmfmkt.utils.schema import did_you_mean

# Path of a classifier's head, whose output is the logits. As a tap of the
# student, it stands for the feature before neck and head.
HEAD = 'head'
# Largest number of class, distillation and register tokens of a vision
# transformer.
MAX_EXTRA_TOKENS = 8


def split_tap(tap: str) -> Tuple[str, Optional[int]]:
    """Split ``'bbox_head[0]'`` into the module and the index of its output.

    Args:
        tap (str): Path of a module, and an index in brackets if the module
            has several outputs, such as class maps and boxes of a dense head.
    """
    match = re.fullmatch(r'(.*)\[(\d+)\]', tap)
    return (match[1], int(match[2])) if match else (tap, None)


def find_module(network: nn.Module, tap: str, role: str) -> nn.Module:
    """Return the module that a tap names.

    Args:
        network (nn.Module): The network.
        tap (str): Such as ``'neck'``, ``'backbone.layer4'`` or
            ``'bbox_head[0]'``.
        role (str): ``'student'`` or ``'teacher'``, for the error.

    Raises:
        ConfigError: If the module does not exist.
    """
    name, _ = split_tap(tap)
    with suppress(AttributeError):
        if name:
            return network.get_submodule(name)
    modules = [name for name, _ in network.named_modules()]
    children = ', '.join(child for child, _ in network.named_children())
    raise ConfigError(
        f'model.tap {tap!r} matches no module of the {role} '
        f'({type(network).__name__}: {children}){did_you_mean(name, modules)}.'
    )


def as_levels(
    output: Any, tap: str, images: Optional[Tensor] = None
) -> List[Tensor]:
    """Return a tap's output as a list of maps, one per level.

    Args:
        output (Tensor | Sequence[Tensor]): Output of the tapped module.
        tap (str): The tap.
        images (Tensor, optional): Input of the network, ``(B, C, H, W)``;
            if given, tokens of patches become maps.

    Raises:
        ConfigError: If the output is not feature maps.
    """
    _, index = split_tap(tap)
    if index is not None:
        if not isinstance(output, Sequence) or index >= len(output):
            raise ConfigError(
                f'model.tap {tap!r} selects output {index} of a module that '
                'has fewer outputs.'
            )
        output = output[index]
    levels = [output] if isinstance(output, Tensor) else output
    if images is not None and isinstance(levels, Sequence):
        levels = [tokens_to_map(level, images) for level in levels]
    if not isinstance(levels, Sequence) or not all(
        isinstance(level, Tensor) and level.dim() == 4 for level in levels
    ):
        patches = ''
        if images is not None:
            patches = (
                '. If these are tokens of patches, set '
                'model.teacher.view.multiple_of to the side of a patch, since '
                f'the images have {images.shape[-2]}x{images.shape[-1]} pixels'
            )
        raise ConfigError(
            f'model.tap {tap!r} must output a feature map (B, C, H, W) or a '
            f'sequence of them, but outputs {type(output).__name__}; tap '
            "another module, or one of its outputs, as in 'bbox_head[0]'"
            f'{patches}.'
        )
    return list(levels)


def tokens_to_map(tokens: Any, images: Tensor) -> Any:
    """Return tokens of square patches as a map.

    Class, distillation and register tokens come first and are left out. A
    value that is not such tokens is returned unchanged.

    Args:
        tokens (Tensor): ``(B, extra + H / p * W / p, C)``, where p is the
            side of a patch in pixels and extra the number of other tokens.
        images (Tensor): ``(B, C, H, W)``.

    Returns:
        Tensor: ``(B, C, H / p, W / p)``.
    """
    if not isinstance(tokens, Tensor) or tokens.dim() != 3:
        return tokens
    height, width = images.shape[-2:]
    for side in range(2, min(height, width) + 1):
        rows, columns = height // side, width // side
        extra = tokens.shape[1] - rows * columns
        is_divisible = height % side == width % side == 0
        if is_divisible and 0 <= extra <= MAX_EXTRA_TOKENS:
            patches = tokens[:, extra:].transpose(1, 2)
            return patches.unflatten(2, (rows, columns))
    return tokens


def replace_levels(output: Any, levels: List[Tensor], tap: str) -> Any:
    """Return a tapped module's output with its levels replaced.

    Args:
        output (Tensor | Sequence[Tensor]): Output of the tapped module.
        levels (list[Tensor]): The new levels.
        tap (str): The tap.
    """
    name, index = split_tap(tap)
    if index is not None:
        replaced = replace_levels(output[index], levels, name)
        return type(output)([*output[:index], replaced, *output[index + 1 :]])
    if isinstance(output, Tensor):
        return levels[0]
    return type(output)(levels)


@contextmanager
def output_hooks(
    network: nn.Module,
    hooks: Sequence[Tuple[str, Callable[[Any], Any]]],
    role: str = 'student',
) -> Iterator[None]:
    """Call functions with the outputs of tapped modules inside a context.

    Hooks are registered for each forward pass. Permanent hooks would be
    called again when activation checkpointing recomputes a tapped module,
    would be copied with an EMA model, and would be lost when SyncBN
    conversion replaces a tapped module.

    Args:
        network (nn.Module): The network.
        hooks (Sequence[tuple[str, Callable]]): Pairs of a tap and a function
            of its output; a result other than None replaces the output.
        role (str): ``'student'`` or ``'teacher'``, for errors.
    """
    with ExitStack() as stack:
        for tap, function in hooks:
            module = find_module(network, tap, role)
            if split_tap(tap)[1] is None:
                handle = module.register_forward_hook(
                    lambda _module, _args, output, call=function: call(output)
                )
                stack.callback(handle.remove)
            else:
                # Detectors call `forward` of dense heads, which skips hooks.
                forward = module.forward
                if 'forward' in vars(module):
                    stack.callback(setattr, module, 'forward', forward)
                else:
                    stack.callback(delattr, module, 'forward')
                module.forward = partial(_call_with_hook, forward, function)
        yield


def _call_with_hook(
    forward: Callable, function: Callable, *args: Any, **kwargs: Any
) -> Any:
    """Return a module's output, or the result of a function of it."""
    output = forward(*args, **kwargs)
    replaced = function(output)
    return output if replaced is None else replaced


def read_taps(
    network: nn.Module,
    taps: Sequence[str],
    inputs: Tensor,
    role: str,
    data_samples: Optional[Sequence[BaseDataElement]] = None,
    stop: bool = False,
) -> List[Any]:
    """Run the part of a network that has the taps, and return their outputs.

    Args:
        network (nn.Module): A detector or a classifier. For taps in backbone
            and neck, ``extract_feat`` runs, and for a tapped dense head also
            the head. Other taps need the whole forward pass.
        taps (Sequence[str]): The taps.
        inputs (Tensor): Normalized images ``(B, C, H, W)``.
        role (str): ``'student'`` or ``'teacher'``, for errors.
        data_samples (Sequence, optional): With the sizes of the images,
            which transformers and two-stage heads need.
        stop (bool): Whether to stop the forward pass at the last tap. Then a
            tapped module that runs twice is not detected.

    Raises:
        ConfigError: If a tapped module does not run exactly once.
    """
    outputs: List[List[Any]] = [[] for _ in taps]

    def record(recorded: List[Any], output: Any) -> None:
        recorded.append(output)
        if stop and all(outputs):
            raise StopForward

    hooks = [(tap, partial(record, x)) for tap, x in zip(taps, outputs)]
    with suppress(StopForward), output_hooks(network, hooks, role):
        if HEAD not in taps:  # a tapped head runs in the forward pass below
            features = network.extract_feat(inputs)
            for tap, recorded in zip(taps, outputs):
                # Dense heads, which need no second pass of the backbone.
                if split_tap(tap)[1] is not None and not recorded:
                    find_module(network, tap, role)(features)
        if not all(outputs):
            for recorded in outputs:
                recorded.clear()
            network(inputs, data_samples or dummy_samples(inputs), 'tensor')
    for tap, recorded in zip(taps, outputs):
        if len(recorded) != 1:
            raise ConfigError(
                f'model.tap {tap!r} must run once for a batch, but ran '
                f'{len(recorded)} times in the {role}; tap another module, '
                'such as the neck.'
            )
    return [output for (output,) in outputs]


class StopForward(Exception):
    """Ends a forward pass whose remaining outputs are not needed."""


def dummy_samples(inputs: Tensor) -> List[BaseDataElement]:
    """Return data samples of images without resizing or padding.

    Args:
        inputs (Tensor): ``(B, C, H, W)``.
    """
    keys = ('img_shape', 'ori_shape', 'pad_shape', 'batch_input_shape')
    metainfo = dict.fromkeys(keys, tuple(inputs.shape[-2:]))
    metainfo['scale_factor'] = (1.0, 1.0)
    return [BaseDataElement(metainfo=metainfo) for _ in inputs]
