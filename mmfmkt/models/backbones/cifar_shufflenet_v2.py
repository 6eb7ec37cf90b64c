"""ShuffleNetV2 for CIFAR: Practical Guidelines for Efficient CNN
Architecture Design (arXiv 1807.11164)."""

from typing import Sequence

import torch
from torch import Tensor, nn

from mmfmkt.registry import MODELS
from mmfmkt.utils import ConfigError

from .base import CIFARBackbone, InitCfg, conv_norm_relu, make_stage
from .channel_shuffle import channel_shuffle

STEM_WIDTH = 24
# Widths of the stages by size (table 5 of the paper). RepDistiller also has
# size 2, but with 224 channels where the paper has 244.
WIDTHS = {
    0.5: (48, 96, 192, 1024),
    1: (116, 232, 464, 1024),
    1.5: (176, 352, 704, 1024),
}


class ShuffleUnit(nn.Module):
    """Two branches of half the width, side by side and shuffled.

    With stride 1 each has half of the input, and the left one does nothing;
    with stride 2 both have all of it.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        stride (int): Stride of the depthwise convolutions; 1 where the width
            stays.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int
    ) -> None:
        super().__init__()
        half = out_channels // 2
        self.split = stride == 1
        self.left = nn.Identity()
        if not self.split:
            self.left = nn.Sequential(
                *self.depthwise(in_channels, stride),
                *conv_norm_relu(in_channels, half, 1),
            )
        self.right = nn.Sequential(
            *conv_norm_relu(half if self.split else in_channels, half, 1),
            *self.depthwise(half, stride),
            *conv_norm_relu(half, half, 1),
        )

    @staticmethod
    def depthwise(channels: int, stride: int) -> nn.Sequential:
        """Depthwise 3x3 convolution and norm."""
        return nn.Sequential(
            nn.Conv2d(
                channels,
                channels,
                3,
                stride,
                padding=1,
                groups=channels,
                bias=False,
            ),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, dim=1) if self.split else (x, x)
        out = torch.cat([self.left(left), self.right(right)], dim=1)
        return channel_shuffle(out, 2)


@MODELS.register_module()
class CIFARShuffleNetV2(CIFARBackbone):
    """ShuffleNetV2 for 32x32 images.

    The stem is a 1x1 convolution without stride or pooling. Stages: 0 at
    half the size of the input, 1 at a quarter, 2 at an eighth, 3 the last
    1x1 convolution. PyTorch's own initialisation, as in RepDistiller.

    Args:
        net_size (float): 0.5, 1 or 1.5.
        out_indices (Sequence[int]): Stages whose outputs are returned.
        init_cfg (dict | list[dict], optional): MMEngine's initialisation.

    Raises:
        ConfigError: If there is no network of such size.
    """

    def __init__(
        self,
        net_size: float = 1,
        out_indices: Sequence[int] = (3,),
        init_cfg: InitCfg = None,
    ) -> None:
        if net_size not in WIDTHS:
            raise ConfigError(
                'backbone.net_size of CIFARShuffleNetV2 must be '
                f'0.5, 1 or 1.5, but is {net_size}.'
            )
        *widths, last = (STEM_WIDTH, *WIDTHS[net_size])
        stages = [
            make_stage(ShuffleUnit, num_blocks, in_channels, out_channels, 2)
            for num_blocks, in_channels, out_channels in zip(
                (4, 8, 4), widths, widths[1:]
            )
        ]
        stages.append(conv_norm_relu(widths[-1], last, 1))
        super().__init__(
            conv_norm_relu(3, STEM_WIDTH, 1),
            stages,
            WIDTHS[net_size],
            out_indices,
            init_cfg,
        )
