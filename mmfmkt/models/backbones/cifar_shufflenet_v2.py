"""ShuffleNetV2 for CIFAR: Practical Guidelines for Efficient CNN
Architecture Design (arXiv 1807.11164)."""

from typing import Sequence

import torch
from torch import Tensor, nn

from mmfmkt.registry import MODELS

from .base import (
    CIFARBackbone,
    InitCfg,
    channel_shuffle,
    conv_norm,
    conv_norm_relu,
    make_stages,
    select_architecture,
)

STEM_WIDTH = 24
# Widths of the stages by network size (table 5 of the paper). RepDistiller
# also has size 2, but with 224 channels where the paper has 244.
WIDTHS = {
    0.5: (48, 96, 192, 1024),
    1: (116, 232, 464, 1024),
    1.5: (176, 352, 704, 1024),
}


class ShuffleUnit(nn.Module):
    """Two branches of half the width, concatenated and shuffled.

    With stride 1 each branch gets half of the channels, and the left one is
    the identity. With stride 2 both get all channels.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        stride (int): Stride of the depthwise convolutions; 1 if the width
            does not change.
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
                *conv_norm(
                    in_channels, in_channels, 3, stride, groups=in_channels
                ),
                *conv_norm_relu(in_channels, half, 1),
            )
        self.right = nn.Sequential(
            *conv_norm_relu(half if self.split else in_channels, half, 1),
            *conv_norm(half, half, 3, stride, groups=half),
            *conv_norm_relu(half, half, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, dim=1) if self.split else (x, x)
        out = torch.cat([self.left(left), self.right(right)], dim=1)
        return channel_shuffle(out, 2)


@MODELS.register_module()
class CIFARShuffleNetV2(CIFARBackbone):
    """ShuffleNetV2 for 32x32 images.

    The stem is a 1x1 convolution without stride or pooling. The outputs of
    stages 0, 1 and 2 have a half, a quarter and an eighth of the image's size;
    stage 3 is the last 1x1 convolution. The weights have PyTorch's default
    initialization, as in RepDistiller.

    Args:
        net_size (float): Network size of the paper: 0.5, 1 or 1.5.
        out_indices (Sequence[int]): Stages whose outputs are returned.
        init_cfg (dict | list[dict], optional): MMEngine's initialization.

    Raises:
        ConfigError: If ``net_size`` has another value.
    """

    def __init__(
        self,
        net_size: float = 1,
        out_indices: Sequence[int] = (3,),
        init_cfg: InitCfg = None,
    ) -> None:
        widths = select_architecture(
            'net_size of CIFARShuffleNetV2', net_size, WIDTHS
        )
        stages = make_stages(
            ShuffleUnit, (STEM_WIDTH, *widths), (4, 8, 4), (2, 2, 2)
        )
        stages.append(conv_norm_relu(*widths[-2:], 1))
        stem = conv_norm_relu(3, STEM_WIDTH, 1)
        super().__init__(stem, stages, widths, out_indices, init_cfg)
