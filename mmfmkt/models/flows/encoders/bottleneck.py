"""Bottleneck encoder, with few operations at inference."""

from typing import Optional, Sequence, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...bounds import PositiveInt
from .base import MetaEncoder
from .layers import CompilableSequential


class BottleneckEncoder(MetaEncoder):
    """conv down, GroupNorm(1), SiLU, conv3x3, GroupNorm(1), SiLU, conv1x1 up;
    no bias.

    There is no activation before the first convolution or after the last, so
    the sampler keeps its state at ``width`` channels. It runs the first and
    the last convolution once for all K steps. Each step runs the 3x3
    convolution and the product of last and first convolution
    (``fused_weight``).

    Args:
        channels (int): C of the state.
        width (int): Channels of the bottleneck; if larger than C, C is used.
        kernel_size (int): Kernel size of the first convolution, odd.
        stride (int): Reduction of height and width: the input is averaged
            over ``stride`` x ``stride`` pixels, the output is interpolated.
        kwargs: ``zero_init`` and ``deep_time`` of `MetaEncoder`.

    Examples:
        >>> encoder = BottleneckEncoder(64, width=16)
        >>> state = torch.randn(2, 64, 5, 5)
        >>> encoder.proj_in(state).shape, encoder(state, 0.5).shape
        (torch.Size([2, 16, 5, 5]), torch.Size([2, 64, 5, 5]))
    """

    # The sampler's state is the output of `proj_in`.
    has_projections = True

    def __init__(
        self,
        channels: PositiveInt,
        width: PositiveInt = 64,
        kernel_size: PositiveInt = 1,
        stride: PositiveInt = 1,
        **kwargs,
    ) -> None:
        if kernel_size % 2 == 0:
            raise ValueError(f'kernel_size must be odd, got {kernel_size}.')
        width = min(width, channels)
        padding = kernel_size // 2
        body = CompilableSequential(
            nn.GroupNorm(1, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.GroupNorm(1, width),
            nn.SiLU(),
        )
        layers = [
            nn.Conv2d(
                channels, width, kernel_size, padding=padding, bias=False
            ),
            body,
            nn.Conv2d(width, channels, 1, bias=False),
        ]
        super().__init__(channels, layers, **kwargs)
        self.stride, self.padding = stride, padding

    @property
    def body_layers(self) -> nn.Module:
        return self.layers[1]

    def proj_in(self, state: Tensor) -> Tensor:
        return self.layers[0](self._downsample(state))

    def embed_times(self, times: Sequence[float]) -> Tensor:
        # The time embedding is constant over the map: away from the zero
        # padding, its convolution is the kernel summed over positions.
        weight = self._conv_weight(0)
        summed = weight.sum((2, 3)) if self.padding else weight.flatten(1)
        return F.linear(self.time_embedding(times), summed)

    def proj_out(self, hidden: Tensor, like: Tensor) -> Tensor:
        return self._upsample(self.layers[2](hidden), like)

    def fused_weight(self) -> Tensor:
        """Return the kernel of the last convolution followed by the first.

        The kernels can be multiplied, because the interpolation between the
        convolutions commutes with a 1x1 convolution.
        """
        down, up = self._conv_weight(0), self._conv_weight(2)
        if self.padding:
            return torch.einsum('dchw,cu->duhw', down, up.flatten(1))
        return (down.flatten(1) @ up.flatten(1))[..., None, None]

    def update(
        self, hidden: Tensor, like: Tensor, fused_weight: Optional[Tensor]
    ) -> Tensor:
        """Return ``proj_in(proj_out(hidden))``, at ``width`` channels."""
        if fused_weight is None:
            fused_weight = self.fused_weight()
        resized = self._downsample(self._upsample(hidden, like))
        return F.conv2d(resized, fused_weight, padding=self.padding)

    def _conv_weight(self, index: int) -> Tensor:
        return cast(nn.Conv2d, self.layers[index]).weight

    def _downsample(self, x: Tensor) -> Tensor:
        if self.stride == 1:
            return x
        return F.avg_pool2d(
            x, self.stride, ceil_mode=True, count_include_pad=False
        )

    def _upsample(self, x: Tensor, like: Tensor) -> Tensor:
        if self.stride == 1:
            return x
        return F.interpolate(
            x, size=like.shape[2:], mode='bilinear', align_corners=False
        )
