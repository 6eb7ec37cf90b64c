"""ShuffleNet for CIFAR: An Extremely Efficient Convolutional Neural Network
for Mobile Devices (arXiv 1707.01083)."""

from functools import partial
from typing import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmfmkt.registry import MODELS

from .base import (
    CIFARBackbone,
    InitCfg,
    channel_shuffle,
    conv,
    conv_norm_relu,
    make_stages,
    select_architecture,
)

STEM_WIDTH = 24
# Widths of the stages by number of groups (table 1 of the paper).
WIDTHS = {1: (144, 288, 576), 2: (200, 400, 800), 3: (240, 480, 960)}


class ShuffleUnit(nn.Module):
    """Grouped conv1x1, shuffle, depthwise conv3x3, grouped conv1x1.

    The result is added to the input. With stride 2 it is concatenated with
    the average-pooled input, and ``out_channels`` is the sum of both.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        stride (int): Stride of the depthwise convolution.
        groups (int): Groups of the 1x1 convolutions. The first one after the
            stem has a single group.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, groups: int
    ) -> None:
        super().__init__()
        self.stride = stride
        self.groups = 1 if in_channels == STEM_WIDTH else groups
        if stride == 2:
            out_channels -= in_channels
        hidden = out_channels // 4
        self.conv1 = conv(in_channels, hidden, 1, groups=self.groups)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.conv2 = conv(hidden, hidden, 3, stride, groups=hidden)
        self.bn2 = nn.BatchNorm2d(hidden)
        self.conv3 = conv(hidden, out_channels, 1, groups=groups)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = channel_shuffle(out, self.groups)
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        if self.stride == 2:
            pooled = F.avg_pool2d(x, 3, stride=2, padding=1)
            return self.relu(torch.cat([out, pooled], dim=1))
        return self.relu(out + x)


@MODELS.register_module()
class CIFARShuffleNetV1(CIFARBackbone):
    """ShuffleNetV1 for 32x32 images.

    The stem is a 1x1 convolution without stride or pooling. Unlike in the
    paper, a ReLU follows the depthwise convolutions. The outputs of stages 0,
    1 and 2 have a half, a quarter and an eighth of the image's size; each
    stage ends with a ReLU. The weights have PyTorch's default initialization,
    as in RepDistiller.

    Args:
        groups (int): Groups of the 1x1 convolutions: 1, 2 or 3.
        out_indices (Sequence[int]): Stages whose outputs are returned.
        init_cfg (dict | list[dict], optional): MMEngine's initialization.

    Raises:
        ConfigError: If ``groups`` has another value.
    """

    def __init__(
        self,
        groups: int = 3,
        out_indices: Sequence[int] = (2,),
        init_cfg: InitCfg = None,
    ) -> None:
        widths = select_architecture(
            'groups of CIFARShuffleNetV1', groups, WIDTHS
        )
        block = partial(ShuffleUnit, groups=groups)
        stages = make_stages(
            block, (STEM_WIDTH, *widths), (4, 8, 4), (2, 2, 2)
        )
        stem = conv_norm_relu(3, STEM_WIDTH, 1)
        super().__init__(stem, stages, widths, out_indices, init_cfg)
