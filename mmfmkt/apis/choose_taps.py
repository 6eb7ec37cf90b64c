"""Selection of taps, levels and inherited weights of detectors."""

from typing import Dict, List, Optional

from mmengine.config import Config
from mmengine.hub import get_config
from torch import nn

from mmfmkt.models.distillers.networks import (
    build_network,
    load_model_config,
    without_weights,
)
from mmfmkt.models.distillers.probing import probe
from mmfmkt.models.distillers.taps import LevelSpec, pair_levels
from mmfmkt.utils import ConfigError


def choose_taps(
    config: Config,
    model: dict,
    teacher: Optional[str],
    options: dict,
    class_maps: bool = False,
) -> List[str]:
    """Choose the taps and levels of a detector.

    Args:
        config (Config): Config of the student.
        model (dict): ``model`` section of the distillation, changed in
            place.
        teacher (str, optional): Config of the teacher.
        options (dict): Overrides of the teacher's ``model`` section.
        class_maps (bool): Whether to distill the heads' class maps, too.

    Returns:
        list[str]: Description of the choice by line.
    """
    student = build_network(
        without_weights(load_model_config(config, 'the student')), 'mmdet'
    )
    tap = 'neck' if has_part(student, 'neck') else 'backbone'
    model['tap'] = tap
    if teacher is None:
        count = len(probe(student, tap, 'student'))
        model['levels'] = tuple(range(count))
        return [f'tap       {tap}, {count} levels']
    teacher_config = Config(
        dict(model=load_model_config(teacher, '--teacher'))
    )
    teacher_config.merge_from_dict(
        {f'model.{key}': value for key, value in options.items()}
    )
    teacher_network = build_network(
        without_weights(teacher_config.model), 'mmdet'
    )
    teacher_tap = tap if has_part(teacher_network, 'neck') else 'backbone'
    if teacher_tap != tap:
        model['teacher']['tap'] = teacher_tap
    pairs = shared_levels(student, teacher_network, tap, teacher_tap)
    levels = tuple(pairs)
    # The coarsest pyramid level is computed from the others.
    if len(levels) > 4 and tap == 'neck':
        levels = levels[:-1]
    model['levels'] = levels
    lines = [f"taps      student's {tap}, teacher's {teacher_tap}"]
    lines += [pairs[level] for level in levels]
    if class_maps:
        preset = get_config('mmfmkt::_base_/fmkt_dense.py').distiller.taps[-1]
        head, teacher_head = (
            'rpn_head[0]' if has_part(network, 'roi_head') else preset.tap
            for network in (student, teacher_network)
        )
        pairs = shared_levels(student, teacher_network, head, teacher_head)
        head_levels = tuple(pairs)[: len(levels)]
        lines.append(f"taps      student's {head}, teacher's {teacher_head}")
        lines += [pairs[level] for level in head_levels]
        model['taps'] = [
            dict(tap=tap, levels=levels, teacher_tap=teacher_tap),
            dict(
                tap=head,
                teacher_tap=teacher_head,
                levels=head_levels,
                flow=preset.flow.to_dict(),
            ),
        ]
    return lines + choose_inherited(model, student, teacher_network)


def has_part(network: nn.Module, name: str) -> bool:
    """Return whether a detector has an optional part such as a neck."""
    return getattr(network, name, None) is not None


def choose_inherited(
    model: dict, student: nn.Module, teacher: nn.Module
) -> List[str]:
    """Inherit the teacher's weights of neck and heads with equal shapes."""
    student_parts, teacher_parts = (
        {
            name: {key: x.shape for key, x in part.state_dict().items()}
            for name, part in network.named_children()
        }
        for network in (student, teacher)
    )
    shared = [
        name
        for name, shapes in student_parts.items()
        if name != 'backbone' and shapes and shapes == teacher_parts.get(name)
    ]
    if not shared:
        return []
    model['teacher']['inherit'] = shared
    return [f"inherits  the teacher's {', '.join(shared)}"]


def shared_levels(
    student: nn.Module, teacher: nn.Module, tap: str, teacher_tap: str
) -> Dict[int, str]:
    """Describe the student's levels with a stride that the teacher has, too.

    Returns:
        dict[int, str]: Description of each pair by the student's level.

    Raises:
        ConfigError: If no stride is equal.
    """
    student_specs = probe(student, tap, 'student')
    teacher_specs = probe(teacher, teacher_tap, 'teacher')
    strides = {x.stride for x in teacher_specs}
    levels: Dict[float, int] = {}
    for level, spec in enumerate(student_specs):
        if spec.stride in strides:
            levels.setdefault(spec.stride, level)
    if not levels:
        raise ConfigError(
            f"model.tap: the student's {tap} has strides "
            f"{format_strides(student_specs)}, the teacher's {teacher_tap} "
            f'{format_strides(teacher_specs)}: no stride is equal. Use a '
            'teacher config with another pyramid.'
        )
    pairs = pair_levels(
        tuple(levels.values()), student_specs, teacher_specs, tap, teacher_tap
    )
    lines = {}
    for level, partner in pairs.items():
        source, target = student_specs[level], teacher_specs[partner]
        lines[level] = (
            f'          level {level} to {partner}, stride {source.stride:g}, '
            f'{source.channels} channels to {target.channels}'
        )
        if source.channels != target.channels:
            lines[level] += ' by a 1x1 convolution'
    return lines


def format_strides(specs: List[LevelSpec]) -> str:
    """Return the strides of levels as text."""
    return ', '.join(f'{x.stride:g}' for x in specs)
