"""T(.): from the student's space to the teacher's.

It maps the student's side only: a learned map on the teacher's side would
let the target collapse (section 2, "What is compared").
"""

from typing import Optional, Sequence

import torch.nn.functional as F
from torch import Tensor, nn


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Interpolate maps ``(B, C, H, W)`` to a size; vectors stay as they are.

    Args:
        x (Tensor): Maps, or vectors ``(B, C)``.
        size (Sequence[int]): (H', W'); empty for vectors.
    """
    if x.shape[2:] == tuple(size):
        return x
    return F.interpolate(
        x, size=tuple(size), mode='bilinear', align_corners=False
    )


class ShapeTransform(nn.Module):
    """A linear map of channels where they differ, resizing where sizes do.

    Args:
        in_channels (int): C_s.
        out_channels (int): C_t. Equal channels need no map.
        vectors (bool): Whether features are ``(B, C)`` instead of maps.
    """

    def __init__(
        self, in_channels: int, out_channels: int, vectors: bool = False
    ) -> None:
        super().__init__()
        if in_channels == out_channels:
            self.proj = nn.Identity()
        elif vectors:
            self.proj = nn.Linear(in_channels, out_channels)
        else:
            self.proj = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, size: Optional[Sequence[int]] = None):
        """Transform a feature.

        Args:
            x (Tensor): ``(B, C_s, H, W)`` or ``(B, C_s)``.
            size (Sequence[int], optional): (H', W') of the teacher's
                feature; None keeps (H, W).

        Returns:
            Tensor: ``(B, C_t, H', W')`` or ``(B, C_t)``.
        """
        x = self.proj(x)
        return x if size is None else resize(x, size)


class PooledHead(nn.Module):
    """Pooling and a linear layer: from features to logits.

    Args:
        in_channels (int): C_s.
        num_classes (int): Classes of the teacher's logits.
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(in_channels, num_classes)

    def forward(self, x: Tensor, size: Optional[Sequence[int]] = None):
        """Classify ``(B, C_s, H, W)`` or ``(B, C_s)``: ``(B, classes)``."""
        return self.fc(x.flatten(2).mean(2) if x.dim() > 2 else x)
