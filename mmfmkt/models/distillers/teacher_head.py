"""The teacher's dense head, as what reads single levels of its pyramid."""

from typing import Optional, Tuple

import torch
from torch import Tensor, nn

from mmfmkt.utils import ConfigError

KEY = 'model.flow.metric'
# GroupNorm wants more than one value in a group.
SMALL = (2, 2)


class DenseHeadReader:
    """Predictions of a teacher's dense head on a map of one level: of its
    ``bbox_head``, or of the ``rpn_head`` of a two-stage detector.

    Copies share the head, which is the teacher's and trains nowhere.

    Args:
        teacher (nn.Module): The teacher.
        level (int): Which of its levels is read.
        num_levels (int): How many its head takes.

    Raises:
        ConfigError: If the head does not give scores by sigmoid and a box
            for each prior.
    """

    def __init__(
        self, teacher: nn.Module, level: int, num_levels: int
    ) -> None:
        own = getattr(teacher, 'rpn_head', None)
        self.head: Optional[nn.Module] = getattr(teacher, 'bbox_head', own)
        self.level, self.num_levels = level, num_levels
        parts = ('prior_generator', 'bbox_coder', 'cls_out_channels')
        if any(not hasattr(self.head, part) for part in parts) or not getattr(
            self.head, 'use_sigmoid_cls', True
        ):
            self._refuse('has none')
        like = next(self.head.parameters())
        with torch.no_grad():
            self(like.new_zeros(1, self.head.in_channels, *SMALL))

    def __deepcopy__(self, memo: dict) -> 'DenseHeadReader':
        return self

    def __call__(self, maps: Tensor) -> Tuple[Tensor, Tensor]:
        """Read a map.

        Args:
            maps (Tensor): ``(N, C, H, W)``, of the teacher's channels.

        Returns:
            tuple: Logits ``(N, priors, classes)`` and boxes ``(N, priors,
            4)``, corners in pixels.
        """
        # Heads take all levels, and some have a scale for each.
        nothing = maps.new_zeros(1, maps.shape[1], *SMALL)
        levels = [nothing] * self.num_levels
        levels[self.level] = maps
        given = self.head(tuple(levels))
        logits, boxes = (
            maps_of_level[self.level].permute(0, 2, 3, 1)
            for maps_of_level in given[:2]
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

    def _refuse(self, why: str) -> None:
        raise ConfigError(
            f'{KEY}: what is compared is read by a dense head, one with '
            'priors, sigmoid scores and a box of four numbers for each '
            f'prior, but the teacher {why}.'
        )
