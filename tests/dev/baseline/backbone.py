"""Backbone of the tiny classifiers."""

from typing import Tuple

from mmpretrain.models.backbones.base_backbone import BaseBackbone
from mmpretrain.registry import MODELS
from torch import Tensor, nn

# Size of a patch in pixels.
STRIDE = 8


@MODELS.register_module()
class BaselineBackbone(BaseBackbone):
    """Patch embedding (8x8 pixels) with one or two levels, or a vector.

    Args:
        channels (int): C.
        levels (int): 1 or 2; the second level has half the resolution.
        vectors (bool): Whether maps are averaged to a vector.
        crops (bool): Whether to crop maps that are not square, so that they
            are smaller than those of the student.
    """

    def __init__(self, channels, levels=1, vectors=False, crops=False):
        super().__init__()
        self.patches = nn.Conv2d(3, channels, STRIDE, STRIDE)
        self.down = nn.Conv2d(channels, channels, 2, 2) if levels > 1 else None
        self.vectors, self.crops = vectors, crops

    def forward(self, x: Tensor) -> Tuple[Tensor, ...]:
        x = self.patches(x)
        if self.vectors:
            return (x.mean((2, 3)),)
        if self.crops and x.shape[2] != x.shape[3]:
            x = x[..., :-1, :-1]
        return (x,) if self.down is None else (x, self.down(x))
