"""Levels of a tap: channels and strides, and matching to the teacher's."""

from dataclasses import dataclass
from math import log2
from typing import Any, Dict, List, Optional, Sequence

from mmfmkt.utils import ConfigError

# Strides with a smaller relative difference count as equal: it is due to
# rounding.
SAME_STRIDE = 1e-3
# Levels of a pyramid, whose strides double, have at most one level of another
# pyramid within half an octave.
NEAR_STRIDE = 0.5


@dataclass
class LevelSpec:
    """One level of a tap's output.

    Attributes:
        channels (int): C.
        stride (float): Width of the image divided by that of the map.
    """

    channels: int
    stride: float


def check_levels(
    levels: Optional[Sequence[int]], specs: List[LevelSpec], tap: str
) -> List[int]:
    """Return the tapped levels of the student, by default all.

    Args:
        levels (Sequence[int], optional): ``model.levels``.
        specs (list[LevelSpec]): Levels of the student's tap.
        tap (str): The tap, for errors.

    Raises:
        ConfigError: If a level does not exist or is given twice.
    """
    if levels is None:
        return list(range(len(specs)))
    for level in levels:
        if level not in range(len(specs)):
            raise ConfigError(
                f'model.levels has level {level!r}, but tap {tap!r} of the '
                f'student has the levels 0 to {len(specs) - 1}.'
            )
    check_distinct(levels, 'model.levels')
    return list(levels)


def check_distinct(values: Sequence[Any], key: str) -> None:
    """Raise a ConfigError if there are no values or two values are equal.

    Args:
        values (Sequence): The values.
        key (str): Their config key, for the error.
    """
    if not values or len(set(values)) < len(values):
        raise ConfigError(
            f'{key} must have one or more distinct values, but is '
            f'{tuple(values)}.'
        )


def pair_levels(
    levels: Optional[Sequence[int]],
    student: List[LevelSpec],
    teacher: List[LevelSpec],
) -> Dict[int, int]:
    """Match the student's levels to the teacher's by stride.

    Pyramids may start and end at different strides. If several levels of the
    teacher have the same stride, as in a dilated backbone, the one with the
    student's index is taken, or else the last of them.

    Args:
        levels (Sequence[int], optional): Tapped levels of the student, each
            matched to the teacher's level of the nearest stride. None: all
            levels whose stride the teacher has as well; if there is no such
            level, all for which the teacher has a stride within a factor of
            sqrt(2), or else the level with the nearest stride.
        student (list[LevelSpec]): Levels of the student's tap.
        teacher (list[LevelSpec]): Levels of the teacher's tap, with strides
            in pixels of the student's image.

    Returns:
        dict[int, int]: Level of the teacher by level of the student.
    """
    distances = {
        level: [abs(log2(x.stride / student[level].stride)) for x in teacher]
        for level in (range(len(student)) if levels is None else levels)
    }
    if levels is None:
        nearest = {level: min(row) for level, row in distances.items()}
        levels = (
            [level for level, x in nearest.items() if x < SAME_STRIDE]
            or [level for level, x in nearest.items() if x < NEAR_STRIDE]
            or [min(nearest, key=nearest.__getitem__)]
        )
    pairs = {}
    for level in levels:
        row = distances[level]
        closest = [i for i, x in enumerate(row) if x - min(row) < SAME_STRIDE]
        pairs[level] = level if level in closest else closest[-1]
    return pairs


def describe_pairs(
    pairs: Dict[int, int], student: List[LevelSpec], teacher: List[LevelSpec]
) -> List[str]:
    """Return a description of each pair of levels, for the log.

    Args:
        pairs (dict[int, int]): Level of the teacher by level of the student.
        student (list[LevelSpec]): Levels of the student's tap.
        teacher (list[LevelSpec]): Levels of the teacher's tap, with strides
            in pixels of the student's image.
    """
    descriptions = []
    for level, teacher_level in pairs.items():
        source, target = student[level], teacher[teacher_level]
        text = f'level {level} to {teacher_level}, stride {source.stride:g}'
        if abs(source.stride / target.stride - 1) > SAME_STRIDE:
            text += (
                f" resampled to {target.stride:.4g}, the teacher's stride in "
                "pixels of the student's image"
            )
        text += f', {source.channels} channels to {target.channels}'
        if source.channels != target.channels:
            text += ' by a 1x1 convolution'
        descriptions.append(text)
    return descriptions
