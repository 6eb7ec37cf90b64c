"""Classes that student and teacher share, matched by name."""

from dataclasses import replace
from typing import (
    Any,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

from mmengine.fileio import list_from_file
from mmengine.registry import DATASETS
from torch import nn

from mmfmkt.utils import ConfigError
from mmfmkt.utils.checkpoints import load_checkpoint
from mmfmkt.utils.schema import did_you_mean
from mmfmkt.utils.types import resolve_type

from .data_pipeline import get_field, wrapped_datasets
from .levels import LevelSpec

# Tap of the class maps of a one-stage detector.
CLASS_MAPS = 'bbox_head[0]'


class ClassOutputs(NamedTuple):
    """Class outputs of a network, for each anchor or image.

    Attributes:
        classes (int): Number of classes.
        channels (int): Number of outputs: with softmax scores of a detector,
            the background is the last one.
    """

    classes: int
    channels: int


# Outputs of student and teacher.
ClassPair = Tuple[ClassOutputs, ClassOutputs]


def pair_class_maps(
    networks: Sequence[nn.Module],
    taps: Sequence[str],
    levels: Sequence[List[LevelSpec]],
) -> Tuple[Optional[ClassPair], List[LevelSpec]]:
    """Return the class outputs of two dense heads, if class maps are tapped.

    A map has a channel for each anchor and class, with the classes of an
    anchor next to each other.

    Args:
        networks (Sequence[nn.Module]): Student and teacher.
        taps (Sequence[str]): Their taps.
        levels (Sequence[list[LevelSpec]]): Levels of their taps.

    Returns:
        tuple: The class outputs, or None, and the levels of the teacher with
        the channels of the student's classes.
    """
    pair = []
    for network, tap, specs in zip(networks, taps, levels):
        head = getattr(network, 'bbox_head', None)
        channels = getattr(head, 'cls_out_channels', 0)
        is_known = tap == CLASS_MAPS and channels
        if not is_known or any(x.channels % channels for x in specs):
            return None, levels[1]
        pair.append(ClassOutputs(head.num_classes, channels))
    student, teacher = pair
    return (student, teacher), [
        replace(x, channels=x.channels // teacher.channels * student.channels)
        for x in levels[1]
    ]


def match_classes(
    outputs: ClassPair,
    student: Optional[List[str]],
    teacher: Optional[List[str]],
    mapping: Optional[Mapping[str, str]] = None,
) -> List[Optional[int]]:
    """Return the teacher's output of each output of the student.

    Args:
        outputs (tuple[ClassOutputs, ClassOutputs]): Student and teacher.
        student (list[str], optional): The student's class names; None:
            unknown.
        teacher (list[str], optional): The teacher's class names.
        mapping (Mapping[str, str], optional): Name of the teacher's class by
            that of the student's; None: equal names.

    Returns:
        list[int | None]: None for a class that the teacher does not have.
            Equal numbers of classes with unknown names are in equal order.

    Raises:
        ConfigError: If names are needed and unknown, or none agrees.
    """
    count, teacher_count = (x.classes for x in outputs)
    unknown = student is None or teacher is None
    if mapping is None and count == teacher_count:
        if unknown or student == teacher:
            student = teacher = [str(i) for i in range(count)]
    if teacher is None:
        raise ConfigError(
            f'The student has {count} classes and the teacher '
            f'{teacher_count}, whose names are in neither its checkpoint nor '
            'its config: set model.teacher.classes to the list of their '
            'names, as the student names those that it has, or tap feature '
            'maps.'
        )
    if student is None:
        raise ConfigError(
            f'The names of the {count} classes of the student are unknown: '
            'set metainfo=dict(classes=...) in train_dataloader.dataset.'
        )
    if mapping is None:
        mapping = {name: name for name in student if name in teacher}
    given = [('student', student, x) for x in mapping]
    given += [('teacher', teacher, x) for x in mapping.values()]
    for role, names, name in given:
        if name not in names:
            raise ConfigError(
                f'model.teacher.classes names {name!r}, which is not a class '
                f'of the {role}{did_you_mean(name, names)}; its classes are '
                f'{shorten(names)}.'
            )
    if not mapping:
        raise ConfigError(
            f'The classes of the student ({shorten(student)}) and of the '
            f'teacher ({shorten(teacher)}) have no name in common: set '
            "model.teacher.classes to a dict from the student's names to the "
            "teacher's, or tap feature maps."
        )
    indices = {name: teacher.index(x) for name, x in mapping.items()}
    matched = [indices.get(name) for name in student]
    has_background, in_teacher = (x.channels > x.classes for x in outputs)
    if has_background:
        matched.append(teacher_count if in_teacher else None)
    return matched


def describe_classes(
    matched: Sequence[Optional[int]],
    student: Sequence[str],
    teacher: Sequence[str],
) -> str:
    """Return which classes are taught, as text.

    Args:
        matched (Sequence[int | None]): Result of `match_classes`.
        student (Sequence[str]): The student's class names.
        teacher (Sequence[str]): The teacher's class names.
    """
    names = [
        x if x == teacher[i] else f"{x} (teacher's {teacher[i]})"
        for x, i in zip(student, matched)
        if i is not None
    ]
    count = f'{len(names)} of {len(student)} classes'
    return f'{count} are taught: {shorten(names)}'


def shorten(names: Sequence[str]) -> str:
    """Return up to ten names as text."""
    more = [f'and {len(names) - 10} more'] if len(names) > 10 else []
    return ', '.join([*names[:10], *more])


def class_names(
    source: Any, scope: Optional[str] = None
) -> Optional[List[str]]:
    """Return the class names of a data set, or None if it has none.

    Args:
        source (Dataset | dict, optional): A data set, which may wrap others,
            or its config.
        scope (str, optional): Scope of the config's types; default: the
            scope of the run.
    """
    scope = get_field(source, '_scope_') or scope
    is_config = isinstance(source, dict)
    kind = resolve_type(source, DATASETS, scope) if is_config else None
    for names in (
        (get_field(source, 'metainfo') or {}).get('classes'),
        get_field(source, 'classes'),
        getattr(kind, 'METAINFO', {}).get('classes'),
    ):
        if isinstance(names, str):  # path of a file with one name per line
            return list_from_file(names)
        if names:
            return [str(x) for x in names]
    found = (class_names(x, scope) for x in wrapped_datasets(source))
    return next(filter(None, found), None)


def checkpoint_class_names(path: str) -> Optional[List[str]]:
    """Return the class names in a checkpoint of MMEngine, or None.

    Args:
        path (str): Path or URL.
    """
    meta = load_checkpoint(path).get('meta') or {}
    # Before MMDetection 3 and MMPretrain 1, they were in meta itself.
    meta = {**meta, **(meta.get('dataset_meta') or {})}
    names = {str(k).lower(): x for k, x in meta.items()}.get('classes')
    return [str(x) for x in names] if names else None
