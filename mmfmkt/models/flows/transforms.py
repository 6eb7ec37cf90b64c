"""T(.): from the student's space to the teacher's.

It maps the student's side only: a learned map on the teacher's side would
let the target collapse (section 2, "What is compared"). Both transforms are
affine: the mean of what they give of the estimates is what they give of
their mean.
"""

from typing import Callable, Dict, Optional, Sequence, Tuple

import torch.nn.functional as F
from torch import Tensor, nn

Losses = Dict[str, Tensor]
# A student's own head as T: from a feature to logits, and the losses of the
# student's task on them.
Head = Callable[[Tensor], Tuple[Tensor, Losses]]


class MapTransform(nn.Module):
    """A linear map of channels where they differ, resizing where sizes do.

    Args:
        in_channels (int, optional): C_s.
        out_channels (int, optional): C_t. Without both, or where they are
            equal, there is no map of channels.

    Examples:
        >>> transform = MapTransform(8, 16)
        >>> teacher = torch.randn(2, 16, 4, 4)
        >>> transform(torch.randn(2, 8, 5, 5), teacher).shape
        torch.Size([2, 16, 4, 4])
    """

    def __init__(
        self,
        in_channels: Optional[int] = None,
        out_channels: Optional[int] = None,
    ) -> None:
        super().__init__()
        same = in_channels == out_channels
        self.proj = (
            nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)
        )

    def forward(self, x: Tensor, like: Optional[Tensor] = None) -> Tensor:
        """Transform a feature.

        Args:
            x (Tensor): ``(B, C_s, H, W)``.
            like (Tensor, optional): The teacher's feature, whose size is
                taken on.

        Returns:
            Tensor: ``(B, C_t, H', W')``.
        """
        x = self.proj(x)
        return x if like is None else resize(x, like)


class PooledHead(nn.Module):
    """Pooling and a linear layer: from features to logits.

    Args:
        in_channels (int): C_s.
        num_classes (int): Classes of the teacher's logits.

    Examples:
        >>> PooledHead(8, 10)(torch.randn(2, 8, 5, 5)).shape
        torch.Size([2, 10])
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(in_channels, num_classes)

    def forward(self, x: Tensor, like: Optional[Tensor] = None) -> Tensor:
        """Classify ``(B, C_s, H, W)`` or ``(B, C_s)``: ``(B, classes)``."""
        return self.fc(x.flatten(2).mean(2) if x.dim() > 2 else x)


def mean_of(read: Sequence[Tuple[Tensor, Losses]]) -> Tuple[Tensor, Losses]:
    """Mean of what a head gave of several features.

    Args:
        read (Sequence): Logits ``(B, classes)`` and losses of each.
    """
    outputs, losses = zip(*read)
    means = {k: sum(x[k] for x in losses) / len(losses) for k in losses[0]}
    return sum(outputs) / len(outputs), means


def resize(x: Tensor, like: Tensor) -> Tensor:
    """Interpolate maps ``(B, C, H, W)`` to the size of others.

    Args:
        x (Tensor): Maps.
        like (Tensor): Of the wanted (H', W').
    """
    size = tuple(like.shape[2:])
    if x.shape[2:] == size:
        return x
    return F.interpolate(x, size=size, mode='bilinear', align_corners=False)
