"""Transforms T(.) from the student's feature space to the teacher's.

Only the student's feature is transformed: a learned transform of the
teacher's feature could collapse the target.
`MapTransform` and `PooledHead` are affine, so T of the mean of the estimates
is the mean of T of the estimates.
"""

from typing import Callable, Dict, Optional, Sequence, Tuple

import torch.nn.functional as F
from torch import Tensor, nn

from ..tensor_ops import sequential_sum

Losses = Dict[str, Tensor]
# The student's head as T: a function from a feature to logits and the losses
# of the student's task.
Head = Callable[[Tensor], Tuple[Tensor, Losses]]


class MapTransform(nn.Module):
    """1x1 convolution if the channels differ, and resizing if sizes differ.

    Args:
        in_channels (int, optional): Channels C_s of the student's feature.
        out_channels (int, optional): Channels C_t of the teacher's feature.
            If one is None or both are equal, there is no convolution.

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
        self.proj: nn.Module = nn.Identity()
        if in_channels and out_channels and in_channels != out_channels:
            self.proj = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, like: Optional[Tensor] = None) -> Tensor:
        """Transform a feature map.

        Args:
            x (Tensor): ``(B, C_s, H, W)``.
            like (Tensor, optional): Teacher's map; the output gets its size.

        Returns:
            Tensor: ``(B, C_t, H', W')``.
        """
        x = self.proj(x)
        return x if like is None else resize(x, like)


class PooledHead(nn.Module):
    """Global average pooling and a linear layer, from features to logits.

    Args:
        in_channels (int): Channels C_s of the student's feature.
        num_classes (int): Number of classes of the teacher.

    Examples:
        >>> PooledHead(8, 10)(torch.randn(2, 8, 5, 5)).shape
        torch.Size([2, 10])
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(in_channels, num_classes)

    def forward(self, x: Tensor, like: Optional[Tensor] = None) -> Tensor:
        """Return logits ``(B, classes)``.

        Args:
            x (Tensor): ``(B, C_s, H, W)`` or ``(B, C_s)``.
            like (Tensor, optional): Ignored; see `MapTransform`.
        """
        return self.fc(x.flatten(2).mean(2) if x.dim() > 2 else x)


def mean_prediction(
    predictions: Sequence[Tuple[Tensor, Losses]],
) -> Tuple[Tensor, Losses]:
    """Return mean logits and mean losses of a head over several features.

    Args:
        predictions (Sequence): Pairs of logits ``(B, classes)`` and losses,
            for each feature.
    """
    logits, losses = zip(*predictions)
    means = {
        name: sequential_sum([x[name] for x in losses]) / len(losses)
        for name in losses[0]
    }
    return sequential_sum(logits) / len(logits), means


def resize(x: Tensor, like: Tensor) -> Tensor:
    """Interpolate maps ``(B, C, H, W)`` to the size of other maps.

    Args:
        x (Tensor): Maps.
        like (Tensor): Maps of the target size.
    """
    size = tuple(like.shape[2:])
    if x.shape[2:] == size:
        return x
    return F.interpolate(x, size=size, mode='bilinear', align_corners=False)
