"""Selection of taps, levels and inherited weights of detectors."""

from typing import Dict, List, Optional, Tuple

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
        list[str]: Description of the choice, by line.
    """
    student = build_network(
        without_weights(load_model_config(config, 'the student')), 'mmdet'
    )
    tap = 'neck' if getattr(student, 'neck', None) is not None else 'backbone'
    student_levels = probe(student, tap, 'student')
    model['tap'] = tap
    model['levels'] = tuple(range(len(student_levels)))
    if teacher is None:
        return [f'tap       {tap}, {len(student_levels)} levels']
    teacher_cfg = Config(dict(model=load_model_config(teacher, '--teacher')))
    teacher_cfg.merge_from_dict({f'model.{k}': v for k, v in options.items()})
    teacher_network = build_network(
        without_weights(teacher_cfg.model), 'mmdet'
    )
    has_neck = getattr(teacher_network, 'neck', None) is not None
    teacher_tap = tap if has_neck else 'backbone'
    teacher_levels = probe(teacher_network, teacher_tap, 'teacher')
    if teacher_tap != tap:
        model['teacher']['tap'] = teacher_tap
    levels = shared_levels(student_levels, teacher_levels, tap, teacher_tap)
    # The coarsest pyramid level is computed from the others.
    if len(levels) > 4 and tap == 'neck':
        levels = levels[:-1]
    model['levels'] = levels
    lines = describe_pairs(
        levels, student_levels, teacher_levels, tap, teacher_tap
    )
    if class_maps:
        preset = get_config('mmfmkt::_base_/fmkt_dense.py').distiller.taps[-1]
        head = dict(tap=preset.tap, teacher_tap=preset.tap)
        if getattr(student, 'roi_head', None) is not None:
            head['tap'] = 'rpn_head[0]'
        if getattr(teacher_network, 'roi_head', None) is not None:
            head['teacher_tap'] = 'rpn_head[0]'
        student_maps = probe(student, head['tap'], 'student')
        teacher_maps = probe(teacher_network, head['teacher_tap'], 'teacher')
        taps = head['tap'], head['teacher_tap']
        shared = shared_levels(student_maps, teacher_maps, *taps)
        head['levels'] = shared[: len(levels)]
        lines += describe_pairs(
            head['levels'], student_maps, teacher_maps, *taps
        )
        neck = dict(tap=tap, levels=levels, teacher_tap=teacher_tap)
        model['taps'] = [neck, dict(head, flow=preset.flow.to_dict())]
    return lines + choose_inherited(model, student, teacher_network)


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
    student_levels: List[LevelSpec],
    teacher_levels: List[LevelSpec],
    tap: str,
    teacher_tap: str,
) -> Tuple[int, ...]:
    """Return the student's levels with strides that the teacher has, too.

    Raises:
        ConfigError: If there are none.
    """
    strides = {x.stride for x in teacher_levels}
    levels: Dict[float, int] = {}
    for level, spec in enumerate(student_levels):
        if spec.stride in strides:
            levels.setdefault(spec.stride, level)
    if not levels:
        raise ConfigError(
            f"model.tap: the student's {tap} has strides "
            f"{format_strides(student_levels)}, the teacher's {teacher_tap} "
            f'{format_strides(teacher_levels)}: no stride is equal. Use a '
            'teacher config with another pyramid.'
        )
    return tuple(levels.values())


def describe_pairs(
    levels: Tuple[int, ...],
    student_levels: List[LevelSpec],
    teacher_levels: List[LevelSpec],
    tap: str,
    teacher_tap: str,
) -> List[str]:
    """Describe the paired levels and their projections."""
    lines = [f"taps      student's {tap}, teacher's {teacher_tap}"]
    pairs = pair_levels(
        levels, student_levels, teacher_levels, tap, teacher_tap
    )
    for level, partner in pairs.items():
        source, target = student_levels[level], teacher_levels[partner]
        projected = source.channels != target.channels
        lines.append(
            f'          level {level} to {partner}, stride '
            f'{source.stride:g}, {source.channels} channels to '
            f'{target.channels}'
            + (' by a 1x1 convolution' if projected else '')
        )
    return lines


def format_strides(specs: List[LevelSpec]) -> str:
    """Return the strides of levels as text."""
    return ', '.join(f'{x.stride:g}' for x in specs)
