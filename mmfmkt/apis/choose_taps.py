"""Selection of taps, levels, teacher image size and inherited weights."""

from copy import deepcopy
from math import log2
from typing import Any, Dict, List, Optional, Tuple

from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from mmfmkt.models.distillers.classification import ClassificationDistiller
from mmfmkt.models.distillers.data_pipeline import dataset_of
from mmfmkt.models.distillers.levels import (
    LevelSpec,
    describe_pairs,
    pair_levels,
)
from mmfmkt.models.distillers.networks import (
    build_network,
    load_model_config,
    without_weights,
)
from mmfmkt.models.distillers.probing import probe
from mmfmkt.models.distillers.shared_classes import (
    class_folders,
    class_names,
    pair_class_maps,
)
from mmfmkt.models.distillers.taps import HEAD
from mmfmkt.models.distillers.teacher_config import load_teacher_config
from mmfmkt.utils import ConfigError
from mmfmkt.utils.schema import Positive, check_value
from mmfmkt.utils.types import resolve_type


def choose_taps(
    config: Config,
    library: str,
    model: dict,
    class_maps: bool = False,
    teacher_scale: Optional[float] = None,
    tap: Optional[str] = None,
    teacher_tap: Optional[str] = None,
) -> List[str]:
    """Choose taps, levels, teacher image size and inherited weights.

    Args:
        config (Config): Config of the student.
        library (str): Library of the student, ``'mmdet'`` or
            ``'mmpretrain'``.
        model (dict): ``model`` section of the distillation, changed in
            place.
        class_maps (bool): Whether to distill the heads' class maps, too.
        teacher_scale (float, optional): Side of the teacher's images,
            relative to the student's. None: 1 if the networks have a stride
            in common, else the factor that makes their nearest strides equal.
        tap (str, optional): The student's tap; default: its neck or, for a
            classifier, its backbone.
        teacher_tap (str, optional): The teacher's tap; default: the
            student's, or the backbone of a teacher without a neck.

    Returns:
        list[str]: Description of the choice by line.
    """
    student = build_network(
        without_weights(load_model_config(config, 'the student')), library
    )
    has_pyramid = library == 'mmdet' and has_part(student, 'neck')
    tap = tap or ('neck' if has_pyramid else 'backbone')
    model['tap'] = tap
    student_levels = probe(student, tap, 'student')
    if model.get('teacher') is None:
        model['levels'] = tuple(range(len(student_levels)))
        return [f'tap       {tap}, {len(student_levels)} levels']
    teacher, default_tap = build_teacher(model['teacher'], library, tap)
    teacher_tap = teacher_tap or default_tap
    if teacher_tap != tap:
        model['teacher']['tap'] = teacher_tap
    teacher_levels, lines = choose_image_size(
        model['teacher'],
        student_levels,
        probe(teacher, teacher_tap, 'teacher'),
        teacher_scale,
    )
    pairs = pair_levels(None, student_levels, teacher_levels)
    # Skip the coarsest pyramid level, which is computed from the next one.
    if len(pairs) > 4 and tap == 'neck':
        pairs.popitem()
    model['levels'] = tuple(pairs)
    lines.append(f"taps      student's {tap}, teacher's {teacher_tap}")
    lines += indented(describe_pairs(pairs, student_levels, teacher_levels))
    if class_maps:
        lines += choose_class_maps(model, student, teacher, teacher_tap)
    if model.get('task_loss', True):
        inherited = choose_inherited(model, student, teacher)
        if inherited and config.get('load_from'):
            inherited[0] += ', except for tensors in load_from'
        lines += inherited
    return lines


def preset_of(variant: str, tap: Optional[str]) -> str:
    """Return the name of the config in `_base_` that defines a distiller.

    Args:
        variant (str): A key of ``VARIANTS``.
        tap (str, optional): The student's tap.
    """
    prefix = 'theta' if variant == 'theta' else 'fmkt'
    return f'{prefix}_logits' if tap == HEAD else f'{prefix}_fpn'


def choose_classifier_tap(
    config: Config, teacher: Optional[dict], cfg_options: Dict[str, Any]
) -> Tuple[str, List[str]]:
    """Choose the tap of a classifier.

    It is ``'head'``, with a loss of logits, if the teacher classifies the
    student's classes, and the last feature map otherwise.

    Args:
        config (Config): Config of the student.
        teacher (dict, optional): ``model.teacher`` of the distillation.
        cfg_options (dict): Overrides of the distillation by dotted key.

    Returns:
        tuple: The tap, and a description of the choice by line.

    Raises:
        ConfigError: If the classes differ and the student has no feature map.
    """
    if teacher is None or 'model.taps' in cfg_options:
        return HEAD, []
    whole = Config(dict(model=dict(teacher=teacher)))
    for key, value in cfg_options.items():
        if key.startswith('model.teacher.'):
            whole.merge_from_dict({key: value})
    settings = whole.model.teacher
    checkpoint = settings.pop('checkpoint', None)
    for key in ('cache', 'compile'):
        settings.pop(key, None)
    student = without_weights(load_model_config(config, 'the student'))
    scope = config.get('default_scope') or 'mmpretrain'
    with DefaultScope.overwrite_default_scope(scope):
        dataset = dataset_of(config)
        if names := class_names(dataset) or class_folders(dataset):
            dataset = dict(dataset, metainfo=dict(classes=names))
        try:
            distiller = ClassificationDistiller(
                deepcopy(student), settings, 'direct'
            )
            # The checkpoint may have the names of the teacher's classes.
            distiller.teacher_holder.checkpoint = checkpoint
            distiller.set_teacher_dataset(dataset)
        except ConfigError as error:
            reason = error
        else:
            return HEAD, []
    network = build_network(student, 'mmpretrain')
    try:
        probe(network, 'backbone', 'student')
    except ConfigError as error:
        raise ConfigError(
            f'{reason} Feature maps cannot be compared instead: {error} '
            'Vision transformers of MMPretrain output a feature map with '
            "out_type='featmap', a neck such as GlobalAveragePooling and a "
            'head such as LinearClsHead.'
        ) from None
    return 'backbone', [f'tap       backbone; not the logits: {reason}']


def choose_class_maps(
    model: dict, student: nn.Module, teacher: nn.Module, teacher_tap: str
) -> List[str]:
    """Add the class maps of the heads to the taps.

    Args:
        model (dict): ``model`` section with ``tap`` and ``levels``, changed
            in place.
        student (nn.Module): The student.
        teacher (nn.Module): The teacher.
        teacher_tap (str): The teacher's first tap.

    Returns:
        list[str]: Description of the choice by line.
    """
    preset = get_config('mmfmkt::_base_/fmkt_dense.py').distiller.taps[-1]
    taps = [
        'rpn_head[0]' if has_part(network, 'roi_head') else preset.tap
        for network in (student, teacher)
    ]
    levels = probe(student, taps[0], 'student')
    teacher_levels = probe(teacher, taps[1], 'teacher')
    _, teacher_levels = pair_class_maps(
        (student, teacher), taps, (levels, teacher_levels)
    )
    pairs = pair_levels(None, levels, teacher_levels)
    pairs = {x: pairs[x] for x in [*pairs][: len(model['levels'])]}
    model['taps'] = [
        dict(
            tap=model['tap'], levels=model['levels'], teacher_tap=teacher_tap
        ),
        dict(
            tap=taps[0],
            teacher_tap=taps[1],
            levels=tuple(pairs),
            flow=preset.flow.to_dict(),
        ),
    ]
    return [
        f"taps      student's {taps[0]}, teacher's {taps[1]}",
        *indented(describe_pairs(pairs, levels, teacher_levels)),
    ]


def has_part(network: nn.Module, name: str) -> bool:
    """Return whether a network has an optional part such as a neck."""
    return getattr(network, name, None) is not None


def indented(lines: List[str]) -> List[str]:
    """Indent lines that continue a line of the summary."""
    return [f'          {line}' for line in lines]


def build_teacher(
    settings: dict, library: str, tap: str
) -> Tuple[nn.Module, str]:
    """Build a teacher without weights, and choose its tap.

    Args:
        settings (dict): ``model.teacher``, changed in place: a vision
            transformer is set to output maps.
        library (str): Library of the student.
        tap (str): The student's tap.

    Returns:
        tuple: The teacher and its tap.
    """
    model, _ = load_teacher_config(settings, library)
    scope = model.get('_scope_') or library
    backbone = model.get('backbone', {})
    backbone_type = resolve_type(backbone, MODELS, scope)
    if 'featmap' in getattr(backbone_type, 'OUT_TYPES', ()):
        cfg_options = settings.setdefault('cfg_options', {})
        cfg_options['backbone.out_type'] = backbone['out_type'] = 'featmap'
    network = build_network(without_weights(model), library)
    # The neck of a classifier outputs a vector, not maps.
    has_pyramid = scope != 'mmpretrain' and has_part(network, 'neck')
    if tap == 'neck' and not has_pyramid:
        tap = 'backbone'
    return network, tap


def choose_image_size(
    settings: dict,
    student: List[LevelSpec],
    teacher: List[LevelSpec],
    scale: Optional[float],
) -> Tuple[List[LevelSpec], List[str]]:
    """Choose the size of the teacher's images.

    Args:
        settings (dict): ``model.teacher``, changed in place.
        student (list[LevelSpec]): Levels of the student.
        teacher (list[LevelSpec]): Levels of the teacher, with strides in
            pixels of its own images.
        scale (float, optional): As ``teacher_scale`` of `choose_taps`.

    Returns:
        tuple: Levels of the teacher, with strides in pixels of the student's
        images, and a description by line, empty if the sizes are equal.
    """
    if scale is None:
        ratios = [y.stride / x.stride for x in student for y in teacher]
        nearest = min(ratios, key=lambda ratio: abs(log2(ratio)))
        scale = 1.0 if 1 in ratios else nearest
    check_value(scale, Positive, '--teacher-scale')
    view: Dict[str, Any] = dict(scale=scale) if scale != 1 else {}
    if 'backbone.out_type' in settings.get('cfg_options', {}):
        # The patches of a vision transformer must tile the image.
        view['multiple_of'] = round(max(x.stride for x in teacher))
    lines = []
    if view:
        settings['view'] = view
        lines.append(
            f"view      sides of the teacher's images: {scale:.4g} times the "
            f"student's, multiples of {view.get('multiple_of', 1)} pixels"
        )
    return [LevelSpec(x.channels, x.stride / scale) for x in teacher], lines


def choose_inherited(
    model: dict, student: nn.Module, teacher: nn.Module
) -> List[str]:
    """Inherit the teacher's neck and heads whose weights have equal shapes.

    Args:
        model (dict): ``model`` section of the distillation, changed in place.
        student (nn.Module): The student.
        teacher (nn.Module): The teacher.

    Returns:
        list[str]: Description of the choice by line.
    """
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
