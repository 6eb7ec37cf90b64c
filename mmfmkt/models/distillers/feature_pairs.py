"""Feature maps of the student's levels, and their targets in the teacher."""

from functools import partial
from typing import Dict, Optional, Sequence, Tuple

from mmengine.logging import print_log
from torch import nn

from .builder import FeaturePair
from .levels import check_levels, describe_pairs, pair_levels
from .probing import probe
from .shared_classes import ClassPair, pair_class_maps
from .teacher import TeacherHolder
from .teacher_head import TeacherHeadReader

# Features by level of the student.
Features = Dict[int, FeaturePair]


def student_features(
    student: nn.Module,
    tap: str,
    levels: Optional[Sequence[int]],
    needs_teacher: bool,
) -> Features:
    """Return the features of a tap of a distiller that has no teacher.

    Args:
        student (nn.Module): The student.
        tap (str): Its tap.
        levels (Sequence[int], optional): ``model.levels``.
        needs_teacher (bool): Whether the variant is trained with a teacher.
            If not, the target has the student's channels.

    Raises:
        ConfigError: If a level does not exist or the tap cannot be read.
    """
    specs = probe(student, tap, 'student')
    features = {}
    for level in check_levels(levels, specs, tap):
        channels = specs[level].channels
        features[level] = FeaturePair(
            channels, None if needs_teacher else channels
        )
    return features


def pair_features(
    student: nn.Module,
    teacher: TeacherHolder,
    taps: Tuple[str, str],
    levels: Optional[Sequence[int]],
) -> Tuple[Dict[int, int], Features, Optional[ClassPair]]:
    """Match the levels of a student's tap to those of a teacher's tap.

    Args:
        student (nn.Module): The student.
        teacher (TeacherHolder): The teacher.
        taps (tuple[str, str]): Taps of student and teacher.
        levels (Sequence[int], optional): ``model.levels``.

    Returns:
        tuple: Two dicts by level of the student, with the teacher's level and
        with the feature; and the class outputs, or None if no class maps are
        tapped.

    Raises:
        ConfigError: If a level does not exist or a tap cannot be read.
    """
    specs = probe(student, taps[0], 'student')
    check_levels(levels, specs, taps[0])
    class_outputs, teacher_specs = pair_class_maps(
        (student, teacher.network), taps, (specs, teacher.probe(taps[1]))
    )
    pairs = pair_levels(levels, specs, teacher_specs)
    description = '; '.join(describe_pairs(pairs, specs, teacher_specs))
    print_log(
        f"Student's {taps[0]}, teacher's {taps[1]}: {description}.",
        logger='current',
    )
    features = {}
    for level, index in pairs.items():
        source, target = specs[level], teacher_specs[index]
        teacher_head = None
        if taps[1] == 'neck':
            teacher_head = partial(
                TeacherHeadReader, teacher.network, index, len(teacher_specs)
            )
        features[level] = FeaturePair(
            source.channels,
            target.channels,
            teacher_head=teacher_head,
            stride_ratio=source.stride / target.stride,
        )
    return pairs, features, class_outputs
