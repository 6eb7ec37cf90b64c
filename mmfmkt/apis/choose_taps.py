"""Choice of a detector's taps and levels, and of what it inherits."""

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


def decide_taps(
    config: Config,
    model: dict,
    teacher: Optional[str],
    options: dict,
    class_maps: bool = False,
) -> List[str]:
    """Choose the taps and the levels of a detector; say so in lines."""
    student = build_network(
        without_weights(load_model_config(config, 'the student')), 'mmdet'
    )
    tap = 'neck' if getattr(student, 'neck', None) is not None else 'backbone'
    ours = probe(student, tap, 'student')
    model['tap'], model['levels'] = tap, tuple(range(len(ours)))
    if teacher is None:
        return [f'tap       {tap}, {len(ours)} levels']
    theirs_cfg = Config(dict(model=load_model_config(teacher, '--teacher')))
    theirs_cfg.merge_from_dict({f'model.{k}': v for k, v in options.items()})
    network = build_network(without_weights(theirs_cfg.model), 'mmdet')
    their_tap = (
        tap
        if tap == 'backbone' or getattr(network, 'neck', None) is not None
        else 'backbone'
    )
    theirs = probe(network, their_tap, 'teacher')
    if their_tap != tap:
        model['teacher']['tap'] = their_tap
    levels = shared_levels(ours, theirs, tap, their_tap)
    # The coarsest level of a pyramid is made of the others and stays free.
    if len(levels) > 4 and tap == 'neck':
        levels = levels[:-1]
    model['levels'] = levels
    lines = pairs_of(levels, ours, theirs, tap, their_tap)
    if class_maps:
        preset = get_config('mmfmkt::_base_/fmkt_dense.py').distiller.taps[-1]
        head = dict(tap=preset.tap, teacher_tap=preset.tap)
        if getattr(student, 'roi_head', None) is not None:
            head['tap'] = 'rpn_head[0]'
        if getattr(network, 'roi_head', None) is not None:
            head['teacher_tap'] = 'rpn_head[0]'
        ours = probe(student, head['tap'], 'student')
        theirs = probe(network, head['teacher_tap'], 'teacher')
        names = head['tap'], head['teacher_tap']
        head['levels'] = shared_levels(ours, theirs, *names)[: len(levels)]
        lines += pairs_of(head['levels'], ours, theirs, *names)
        neck = dict(tap=tap, levels=levels, teacher_tap=their_tap)
        model['taps'] = [neck, dict(head, flow=preset.flow.to_dict())]
    return lines + decide_inheritance(model, student, network)


def decide_inheritance(
    model: dict, student: nn.Module, teacher: nn.Module
) -> List[str]:
    """Let parts behind the backbone that both have start as the teacher's."""
    own, theirs = (
        {
            name: {key: x.shape for key, x in part.state_dict().items()}
            for name, part in network.named_children()
        }
        for network in (student, teacher)
    )
    shared = [
        name
        for name, shapes in own.items()
        if name != 'backbone' and shapes and shapes == theirs.get(name)
    ]
    if not shared:
        return []
    model['teacher']['inherit'] = shared
    return [f"inherits  the teacher's {', '.join(shared)}"]


def shared_levels(
    ours: List[LevelSpec], theirs: List[LevelSpec], tap: str, their_tap: str
) -> Tuple[int, ...]:
    """Return the student's levels that have a partner, one of a stride.

    Raises:
        ConfigError: If there are none.
    """
    strides = {x.stride for x in theirs}
    seen: Dict[float, int] = {}
    for level, spec in enumerate(ours):
        if spec.stride in strides:
            seen.setdefault(spec.stride, level)
    if not seen:
        raise ConfigError(
            f"The student's {tap} has the strides {strides_of(ours)} and the "
            f"teacher's {their_tap} {strides_of(theirs)}: no level can be "
            'paired; give the teacher another pyramid by a config of its own.'
        )
    return tuple(seen.values())


def pairs_of(
    levels: Tuple[int, ...],
    ours: List[LevelSpec],
    theirs: List[LevelSpec],
    tap: str,
    their_tap: str,
) -> List[str]:
    """Say which levels are paired, and what lies between them."""
    lines = [f"taps      student's {tap}, teacher's {their_tap}"]
    pairs = pair_levels(levels, ours, theirs, tap, their_tap)
    for level, partner in pairs.items():
        ch = ours[level].channels, theirs[partner].channels
        lines.append(
            f'          level {level} to {partner}, stride '
            f'{ours[level].stride:g}, {ch[0]} channels to {ch[1]}'
            + ('' if ch[0] == ch[1] else ' by a 1x1 convolution')
        )
    return lines


def strides_of(specs: List[LevelSpec]) -> str:
    """Return the strides of levels for a sentence."""
    return ', '.join(f'{x.stride:g}' for x in specs)
