"""T(.): from the student's space to the teacher's."""

from typing import Optional, Tuple

import torch.nn.functional as F
from torch import Tensor, nn


class ShapeTransform(nn.Module):
    """A 1x1 convolution where channels differ, resizing where sizes do.

    It maps the student's side only: a learned map on the teacher's side
    would let the target collapse (section 2, "What is compared").

    Args:
        in_channels (int): C_s.
        out_channels (int): C_t. Equal channels need no convolution.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.proj = (
            nn.Identity() if in_channels == out_channels else nn.Conv2d(
                in_channels, out_channels, 1))

    def forward(self, x: Tensor, size: Optional[Tuple[int, int]] = None):
        """Transform a feature.

        Args:
            x (Tensor): ``(B, C_s, H, W)``.
            size (tuple[int, int], optional): (H', W') of the teacher's
                feature; None keeps (H, W).

        Returns:
            Tensor: ``(B, C_t, H', W')``.
        """
        x = self.proj(x)
        if size is not None and x.shape[-2:] != tuple(size):
            x = F.interpolate(
                x, size=size, mode='bilinear', align_corners=False)
        return x
