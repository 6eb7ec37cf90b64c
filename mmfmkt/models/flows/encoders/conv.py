"""Convolutional encoders: full, as in the paper, and depthwise."""

from torch import nn

from ...bounds import PositiveInt
from .base import MetaEncoder


class ConvEncoder(MetaEncoder):
    """SiLU, conv3x3, GroupNorm(1), SiLU, conv3x3; no bias.

    Args:
        channels (int): C of the state.
        kwargs: ``zero_init`` and ``deep_time`` of `MetaEncoder`.

    Examples:
        >>> ConvEncoder(8)(torch.randn(2, 8, 5, 5), 0.5).shape
        torch.Size([2, 8, 5, 5])
    """

    def __init__(self, channels: PositiveInt, **kwargs) -> None:
        layers = [
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.GroupNorm(1, channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        ]
        super().__init__(channels, layers, **kwargs)


class DepthwiseConvEncoder(MetaEncoder):
    """ReLU, conv1x1, GroupNorm(1), ReLU, depthwise conv3x3.

    Args:
        channels (int): C of the state.
        kwargs: ``zero_init`` and ``deep_time`` of `MetaEncoder`.

    Examples:
        >>> DepthwiseConvEncoder(8)(torch.randn(2, 8, 5, 5), 0.5).shape
        torch.Size([2, 8, 5, 5])
    """

    def __init__(self, channels: PositiveInt, **kwargs) -> None:
        layers = [
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 1),
            nn.GroupNorm(1, channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels),
        ]
        super().__init__(channels, layers, **kwargs)
