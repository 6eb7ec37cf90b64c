"""Predictions of the teacher's dense head on one level of a pyramid."""

from typing import Optional, Tuple

import torch
from torch import Tensor, nn

from mmfmkt.utils import ConfigError

# GroupNorm needs more than one value in a group.
DUMMY_SIZE = (2, 2)


class TeacherHeadReader:
    """Dense head of a teacher, applied to maps of one level: its
    ``bbox_head``, or the ``rpn_head`` of a two-stage detector.

    Copies share the head, which is the teacher's and is not trained.

    Args:
        teacher (nn.Module): The teacher.
        level (int): Index of the level.
        num_levels (int): Number of levels that the head takes.

    Raises:
        ConfigError: If the head does not give scores by sigmoid and a box
            for each prior.
    """

    def __init__(
        self, teacher: nn.Module, level: int, num_levels: int
    ) -> None:
        rpn_head = getattr(teacher, 'rpn_head', None)
        self.head: Optional[nn.Module] = getattr(
            teacher, 'bbox_head', rpn_head
        )
        self.level, self.num_levels = level, num_levels
        parts = ('prior_generator', 'bbox_coder', 'cls_out_channels')
        if any(not hasattr(self.head, part) for part in parts) or not getattr(
            self.head, 'use_sigmoid_cls', True
        ):
            self._refuse('has none')
        weight = next(self.head.parameters())
        with torch.no_grad():
            self(weight.new_zeros(1, self.head.in_channels, *DUMMY_SIZE))

    def __deepcopy__(self, memo: dict) -> 'TeacherHeadReader':
        return self

    def __call__(self, maps: Tensor) -> Tuple[Tensor, Tensor]:
        """Predict on maps.

        Args:
            maps (Tensor): ``(N, C, H, W)``, of the teacher's channels.

        Returns:
            tuple: Logits ``(N, priors, classes)`` and boxes ``(N, priors,
            4)``, corners in pixels.
        """
        # Heads take all levels, and some have a scale for each.
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
            self._refuse(f'has a {type(self.head).__name__} with other boxes')
        decoded = self.head.bbox_coder.decode(
            priors.repeat(len(maps), 1), boxes.reshape(-1, 4)
        )
        shape = (len(maps), len(priors))
        return (
            logits.reshape(*shape, self.head.cls_out_channels),
            decoded.reshape(*shape, 4),
        )

    def _refuse(self, reason: str) -> None:
        raise ConfigError(
            "model.flow.metric compares predictions of the teacher's dense "
            'head, which must have priors, sigmoid scores and a box of four '
            f'numbers for each prior, but the teacher {reason}.'
        )
