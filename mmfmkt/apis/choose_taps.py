"""Choice of a detector's taps and levels, and of what it inherits."""

from math import log2
from typing import Any, Dict, List, Optional, Tuple

from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import MODELS
from torch import nn

from mmfmkt.models.distillers.networks import (
    build_network,
    load_model_config,
    without_weights,
)
from mmfmkt.models.distillers.probing import probe
from mmfmkt.models.distillers.taps import (
    LevelSpec,
    describe_pairs,
    pair_levels,
)
from mmfmkt.models.distillers.teacher import load_teacher_config
from mmfmkt.utils.types import resolve_type


def decide_taps(
    config: Config,
    library: str,
    model: dict,
    teacher: Optional[str],
    class_maps: bool = False,
    teacher_scale: Optional[float] = None,
) -> List[str]:
    """Choose a detector's taps and levels and the teacher's view.

    Args:
        config (Config): The student's whole config.
        library (str): Its library.
        model (dict): Settings of the distiller, changed in place.
        teacher (str, optional): The teacher's config.
        class_maps (bool): Whether the class maps of both dense heads are
            tapped, too.
        teacher_scale (float, optional): Side of the teacher's images,
            relative to the student's. None: 1, or, if no strides are equal,
            the one that makes the nearest two equal.

    Returns:
        list[str]: What was decided, a line each.
    """
    student = build_network(
        without_weights(load_model_config(config, 'the student')), library
    )
    has_maps = library == 'mmdet' and getattr(student, 'neck', None)
    tap = 'neck' if has_maps else 'backbone'
    ours = probe(student, tap, 'student')
    model['tap'], model['levels'] = tap, tuple(range(len(ours)))
    if teacher is None:
        return [f'tap       {tap}, {len(ours)} levels']
    network, their_tap = build_tapped_teacher(model['teacher'], tap)
    if their_tap != tap:
        model['teacher']['tap'] = their_tap
    theirs, lines = decide_view(
        model['teacher'],
        ours,
        probe(network, their_tap, 'teacher'),
        teacher_scale,
    )
    levels = tuple(pair_levels(None, ours, theirs))
    # The coarsest level of a pyramid is made of the others and stays free.
    if len(levels) > 4 and tap == 'neck':
        levels = levels[:-1]
    model['levels'] = levels
    lines += pairs_of(levels, ours, theirs, tap, their_tap)
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
        head['levels'] = tuple(pair_levels(None, ours, theirs))[: len(levels)]
        lines += pairs_of(head['levels'], ours, theirs, *names)
        neck = dict(tap=tap, levels=levels, teacher_tap=their_tap)
        model['taps'] = [neck, dict(head, flow=preset.flow.to_dict())]
    if not model.get('task_loss', True):
        return lines
    return lines + decide_inheritance(model, student, network)


def build_tapped_teacher(settings: dict, tap: str) -> Tuple[nn.Module, str]:
    """Build a teacher without weights, and choose its tap.

    Args:
        settings (dict): ``model.teacher``; a vision transformer is made to
            give maps.
        tap (str): The student's tap.
    """
    teacher, _ = load_teacher_config(settings)
    kind = resolve_type(
        teacher.get('backbone', {}), MODELS, teacher.get('_scope_')
    )
    if 'featmap' in getattr(kind, 'OUT_TYPES', ()):
        options = settings.setdefault('cfg_options', {})
        options['backbone.out_type'] = 'featmap'
        teacher.backbone.out_type = 'featmap'
    network = build_network(without_weights(teacher), 'mmdet')
    # A classifier's neck gives no maps.
    foreign = teacher.get('_scope_') not in (None, 'mmdet')
    if foreign or getattr(network, 'neck', None) is None:
        tap = 'backbone'
    return network, tap


def decide_view(
    settings: dict,
    ours: List[LevelSpec],
    theirs: List[LevelSpec],
    scale: Optional[float],
) -> Tuple[List[LevelSpec], List[str]]:
    """Choose the size of the teacher's images.

    Args:
        settings (dict): ``model.teacher``, changed in place.
        ours (list[LevelSpec]): Levels of the student.
        theirs (list[LevelSpec]): Levels of the teacher, in its own pixels.
        scale (float, optional): As `decide_taps`.

    Returns:
        tuple: Levels of the teacher, with strides in the student's pixels,
        and a line for another size than the student's.
    """
    if scale is None:
        ratios = [y.stride / x.stride for x in ours for y in theirs]
        nearest = min(ratios, key=lambda ratio: abs(log2(ratio)))
        scale = 1.0 if 1 in ratios else nearest
    view: Dict[str, Any] = dict(scale=scale) if scale != 1 else {}
    if 'backbone.out_type' in settings.get('cfg_options', {}):
        # Patches must tile the image.
        view['multiple_of'] = round(max(x.stride for x in theirs))
    lines = []
    if view:
        settings['view'] = view
        lines.append(
            f"view      the teacher's images have {scale:.4g} times the "
            "student's sides, in multiples of "
            f'{view.get("multiple_of", 1)} pixels'
        )
    return [LevelSpec(x.channels, x.stride / scale) for x in theirs], lines


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


def pairs_of(
    levels: Tuple[int, ...],
    ours: List[LevelSpec],
    theirs: List[LevelSpec],
    tap: str,
    their_tap: str,
) -> List[str]:
    """Say which levels are paired, and what lies between them."""
    pairs = pair_levels(levels, ours, theirs)
    return [
        f"taps      student's {tap}, teacher's {their_tap}",
        *(f'          {x}' for x in describe_pairs(pairs, ours, theirs)),
    ]
