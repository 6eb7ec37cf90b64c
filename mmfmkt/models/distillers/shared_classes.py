"""Classes that student and teacher share, matched by name."""

import logging
import os.path as osp
import re
from contextlib import suppress
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
from mmengine.logging import print_log
from mmengine.registry import DATASETS
from torch import nn

from mmfmkt.utils import ConfigError
from mmfmkt.utils.checkpoints import load_checkpoint
from mmfmkt.utils.schema import did_you_mean
from mmfmkt.utils.types import is_a, resolve_type

from .data_pipeline import get_field, wrapped_datasets
from .levels import LevelSpec

# Tap of the class maps of a one-stage detector.
CLASS_MAPS = 'bbox_head[0]'


class ClassOutputs(NamedTuple):
    """Numbers of classes and class outputs of a network.

    Attributes:
        classes (int): Number of classes.
        channels (int): Number of outputs for each anchor or image. A detector
            with softmax scores has one more, the last, for the background.
    """

    classes: int
    channels: int


# Class outputs of student and teacher.
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
        tuple: The class outputs, or None, and the teacher's levels with the
        channels that they have after selection of the student's classes.
    """
    pair = []
    for network, tap, specs in zip(networks, taps, levels):
        head = getattr(network, 'bbox_head', None)
        channels = getattr(head, 'cls_out_channels', 0)
        has_class_maps = tap == CLASS_MAPS and channels
        if not has_class_maps or any(x.channels % channels for x in specs):
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
    """Match the student's class outputs to the teacher's by name.

    If names are unknown and both networks have the same number of classes,
    classes are matched by index.

    Args:
        outputs (tuple[ClassOutputs, ClassOutputs]): Student and teacher.
        student (list[str], optional): The student's class names; None:
            unknown.
        teacher (list[str], optional): The teacher's class names; None:
            unknown.
        mapping (Mapping[str, str], optional): The teacher's class names by
            the student's; None: equal names are matched.

    Returns:
        list[int | None]: Index of the teacher's output for each output of the
            student; None for a class that the teacher does not have.

    Raises:
        ConfigError: If names are needed and unknown, if ``mapping`` has an
            unknown name, or if no name is shared.
    """
    count, teacher_count = (x.classes for x in outputs)
    lacks_names = student is None or teacher is None
    if mapping is None and count == teacher_count:
        if lacks_names or student == teacher:
            student = teacher = [str(i) for i in range(count)]
    if teacher is None:
        raise ConfigError(
            f'The student has {count} classes and the teacher '
            f'{teacher_count}, whose names are in neither its checkpoint nor '
            'its config: set model.teacher.classes to the list of their '
            "names, with the student's names for shared classes, or tap "
            'feature maps.'
        )
    if student is None:
        raise ConfigError(
            f'The names of the {count} classes of the student are unknown: '
            'set metainfo=dict(classes=...) in train_dataloader.dataset.'
        )
    if mapping is None:
        mapping = {name: name for name in student if name in teacher}
    to_check = [('student', student, x) for x in mapping]
    to_check += [('teacher', teacher, x) for x in mapping.values()]
    for role, names, name in to_check:
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
    # Whether student and teacher have an output for the background.
    in_student, in_teacher = (x.channels > x.classes for x in outputs)
    if in_student:
        matched.append(teacher_count if in_teacher else None)
    return matched


def describe_classes(
    matched: Sequence[Optional[int]],
    student: Sequence[str],
    teacher: Sequence[str],
) -> str:
    """Return a description of the classes that the teacher teaches.

    Args:
        matched (Sequence[int | None]): Result of `match_classes`.
        student (Sequence[str]): The student's class names.
        teacher (Sequence[str]): The teacher's class names.
    """
    names = [
        name if name == teacher[i] else f"{name} (teacher's {teacher[i]})"
        for name, i in zip(student, matched)
        if i is not None
    ]
    count = f'{len(names)} of {len(student)} classes'
    return f'{count} are taught: {shorten(names)}'


def shorten(names: Sequence[str]) -> str:
    """Return the first ten names and the number of the others, as text."""
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
    cls = resolve_type(source, DATASETS, scope) if is_config else None
    for names in (
        (get_field(source, 'metainfo') or {}).get('classes'),
        get_field(source, 'classes'),
        getattr(cls, 'METAINFO', {}).get('classes'),
    ):
        if isinstance(names, str):  # path of a file with one name per line
            return list_from_file(names)
        if names:
            return [str(x) for x in names]
    wrapped = (class_names(x, scope) for x in wrapped_datasets(source))
    return next(filter(None, wrapped), None)


def class_folders(
    dataset: Any, scope: Optional[str] = None
) -> Optional[List[str]]:
    """Return the folder names that MMPretrain's CustomDataset has as classes.

    Codes, such as those of ImageNet, do not count as names.

    Args:
        dataset (Any): Config of a data set, which may wrap others.
        scope (str, optional): Scope of the config's types.

    Returns:
        list[str] | None: The names; None for codes and other data sets, or
        if the root folder does not exist.
    """
    custom = ['mmpretrain.CustomDataset']
    if not isinstance(dataset, dict) or dataset.get('ann_file'):
        return None
    if is_a(dataset, custom, DATASETS, scope):
        from mmpretrain.datasets.custom import find_folders

        prefix = dataset.get('data_prefix') or ''
        if isinstance(prefix, dict):
            prefix = prefix.get('img_path', '')
        root = osp.join(dataset.get('data_root') or '', prefix)
        with suppress(OSError):
            names = find_folders(root)[0]
            are_codes = all(re.fullmatch(r'n?\d+', x) for x in names)
            return None if are_codes else names
    wrapped = (class_folders(x, scope) for x in wrapped_datasets(dataset))
    return next(filter(None, wrapped), None)


def student_class_names(
    dataset: Any, outputs: ClassPair, teacher: Optional[List[str]]
) -> Optional[List[str]]:
    """Return the names of a student's classes, or None if they are unknown.

    Args:
        dataset (Dataset | dict, optional): As in `class_names`.
        outputs (tuple[ClassOutputs, ClassOutputs]): Student and teacher.
        teacher (list[str], optional): Names of the teacher's classes.
    """
    names = class_names(dataset)
    if names is None:
        names = class_folders(dataset)
        is_equal_number = outputs[0].classes == outputs[1].classes
        if is_equal_number and set(names or ()).isdisjoint(teacher or ()):
            if names and teacher:
                print_log(
                    f'The class folders of the student ({shorten(names)}) '
                    f'and the classes of the teacher ({shorten(teacher)}) '
                    'have no name in common: they are compared in this order.',
                    'current',
                    logging.WARNING,
                )
            names = None
    return names if names and len(names) == outputs[0].classes else None


def teacher_class_names(
    classes: Any,
    count: int,
    checkpoint: Optional[str],
    data: Tuple[Any, Optional[str]],
) -> Optional[List[str]]:
    """Return the names of a teacher's classes, or None if they are unknown.

    Args:
        classes (Any): ``model.teacher.classes``; a list has the names.
        count (int): Number of the teacher's classes.
        checkpoint (str, optional): Its checkpoint.
        data (tuple): Its data set's config, and the scope of the types there.

    Raises:
        ConfigError: If ``classes`` is a list of another number of names.
    """
    if isinstance(classes, (list, tuple)):
        if len(classes) != count:
            raise ConfigError(
                f'model.teacher.classes has {len(classes)} names, but the '
                f'teacher has {count} classes; name all of them.'
            )
        return list(classes)
    names = checkpoint and checkpoint_class_names(checkpoint)
    if not names or len(names) != count:
        names = class_names(*data)
    return names if names and len(names) == count else None


def checkpoint_class_names(path: str) -> Optional[List[str]]:
    """Return the class names in a checkpoint of MMEngine, or None.

    Args:
        path (str): Path or URL.
    """
    meta = load_checkpoint(path).get('meta') or {}
    # Before MMDetection 3 and MMPretrain 1, the names were in meta itself.
    meta = {**meta, **(meta.get('dataset_meta') or {})}
    names = {str(k).lower(): x for k, x in meta.items()}.get('classes')
    return [str(x) for x in names] if names else None
