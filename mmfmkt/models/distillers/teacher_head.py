"""Predictions of the teacher's dense head on one level of a pyramid."""

from typing import Optional, Tuple

import torch
from torch import Tensor, nn

from mmfmkt.utils import ConfigError

# GroupNorm needs more than one value in a group.
DUMMY_SIZE = (2, 2)


class TeacherHeadReader:
    """The teacher's dense head, applied to maps of one level.

    The dense head is the ``bbox_head``, or the ``rpn_head`` of a two-stage
    detector. It is frozen, and copies of this object share it.

    Args:
        teacher (nn.Module): The teacher.
        level (int): Index of the level.
        num_levels (int): Number of levels that the head takes.

    Raises:
        ConfigError: If the teacher has no dense head with priors, sigmoid
            scores and one box for each prior.
    """

    def __init__(
        self, teacher: nn.Module, level: int, num_levels: int
    ) -> None:
        rpn_head = getattr(teacher, 'rpn_head', None)
        self.head: Optional[nn.Module] = getattr(
            teacher, 'bbox_head', rpn_head
        )
        self.level, self.num_levels = level, num_levels
        names = ('prior_generator', 'bbox_coder', 'cls_out_channels')
        if any(not hasattr(self.head, name) for name in names) or not getattr(
            self.head, 'use_sigmoid_cls', True
        ):
            raise unsuitable_head('has no such head')
        weight = next(self.head.parameters())
        with torch.no_grad():  # raises an error for unsuitable boxes
            self(weight.new_zeros(1, self.head.in_channels, *DUMMY_SIZE))

    def __deepcopy__(self, memo: dict) -> 'TeacherHeadReader':
        return self

    def __call__(self, maps: Tensor) -> Tuple[Tensor, Tensor]:
        """Predict on maps.

        Args:
            maps (Tensor): ``(B, C, H, W)`` with the teacher's channels.

        Returns:
            tuple: Logits ``(B, priors, classes)`` and boxes ``(B, priors,
            4)`` as corners in pixels.
        """
        # A head takes the maps of all levels, since it may have a learned
        # scale for each level.
        levels = [
            maps.new_zeros(1, maps.shape[1], *DUMMY_SIZE)
        ] * self.num_levels
        levels[self.level] = maps
        logits, boxes = (
            output[self.level].permute(0, 2, 3, 1)
            for output in self.head(tuple(levels))[:2]
        )
        priors = self.head.prior_generator.single_level_grid_priors(
            tuple(maps.shape[2:]),
            self.level,
            dtype=boxes.dtype,
            device=boxes.device,
        )
        if boxes.numel() != 4 * len(maps) * len(priors):
            name = type(self.head).__name__
            raise unsuitable_head(f'has a {name} with other boxes')
        decoded = self.head.bbox_coder.decode(
            priors.repeat(len(maps), 1), boxes.reshape(-1, 4)
        )
        shape = (len(maps), len(priors))
        return (
            logits.reshape(*shape, self.head.cls_out_channels),
            decoded.reshape(*shape, 4),
        )


def unsuitable_head(reason: str) -> ConfigError:
    """Return the error for a teacher without a suitable dense head.

    Args:
        reason (str): End of a sentence that starts with "the teacher".
    """
    return ConfigError(
        "model.flow.metric compares predictions of the teacher's dense head, "
        'which must have priors, sigmoid scores and a box of four numbers for '
        f'each prior, but the teacher {reason}.'
    )
