"""The encoder that a deployed detector can afford: a bottleneck."""

from typing import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...bounds import Count
from .base import MetaEncoder
from .layers import Layers


class BottleneckEncoder(MetaEncoder):
    """conv down, GroupNorm(1), SiLU, conv3x3, GroupNorm(1), SiLU, conv1x1 up;
    no bias.

    The first and the last convolution are linear, so the flow walks between
    them: K steps come in once and leave once, and each costs two convolutions
    on its channels.

    Args:
        channels (int): C of the state.
        width (int): Channels of what is walked, where C is not less.
        kernel_size (int): Side of the first convolution, odd.
        stride (int): By how much the map is narrowed in height and width as
            well: means of ``stride`` x ``stride`` pixels come in, and what
            leaves is interpolated.
        kwargs: ``zero_init`` and ``deep_time`` of `MetaEncoder`.

    Examples:
        >>> encoder = BottleneckEncoder(64, width=16)
        >>> state = torch.randn(2, 64, 5, 5)
        >>> encoder.enter(state).shape, encoder(state, 0.5).shape
        (torch.Size([2, 16, 5, 5]), torch.Size([2, 64, 5, 5]))
    """

    narrows = True

    def __init__(
        self,
        channels: Count,
        width: Count = 64,
        kernel_size: Count = 1,
        stride: Count = 1,
        **kwargs,
    ) -> None:
        if kernel_size % 2 == 0:
            raise ValueError(f'kernel_size must be odd, but is {kernel_size}.')
        width = min(width, channels)
        padding = kernel_size // 2
        inner = Layers(
            nn.GroupNorm(1, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.GroupNorm(1, width),
            nn.SiLU(),
        )
        layers = [
            nn.Conv2d(
                channels,
                width,
                kernel_size,
                padding=padding,
                bias=False,
            ),
            inner,
            nn.Conv2d(width, channels, 1, bias=False),
        ]
        super().__init__(channels, layers, **kwargs)
        self.stride, self.padding = stride, padding

    @property
    def core(self) -> nn.Module:
        return self.layers[1]

    def enter(self, state: Tensor) -> Tensor:
        return self.layers[0](self._shrink(state))

    def embed(self, times: Sequence[float]) -> Tensor:
        # What the first convolution makes of the time, away from the border.
        weight = self.layers[0].weight
        pixel = weight.sum((2, 3)) if self.padding else weight.flatten(1)
        return F.linear(self.time_embedding(times), pixel)

    def leave(self, inner: Tensor, like: Tensor) -> Tensor:
        return self._grow(self.layers[2](inner), like)

    def joint(self) -> Tensor:
        # Up and down at once; interpolation does not mind the channels.
        down, up = (self.layers[i].weight for i in (0, 2))
        if self.padding:
            return torch.einsum('dchw,cu->duhw', down, up.flatten(1))
        return (down.flatten(1) @ up.flatten(1))[..., None, None]

    def turn(self, inner: Tensor, like: Tensor, joint: Tensor) -> Tensor:
        narrow = self._shrink(self._grow(inner, like))
        return F.conv2d(narrow, joint, padding=self.padding)

    def _shrink(self, x: Tensor) -> Tensor:
        if self.stride == 1:
            return x
        return F.avg_pool2d(
            x, self.stride, ceil_mode=True, count_include_pad=False
        )

    def _grow(self, x: Tensor, like: Tensor) -> Tensor:
        if self.stride == 1:
            return x
        return F.interpolate(
            x, size=like.shape[2:], mode='bilinear', align_corners=False
        )
