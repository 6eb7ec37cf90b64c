"""MobileNetV2 for CIFAR: Inverted Residuals and Linear Bottlenecks
(arXiv 1801.04381)."""

from functools import partial
from typing import Sequence

from torch import Tensor, nn

from mmfmkt.registry import MODELS

from .base import (
    KAIMING,
    CIFARBackbone,
    InitCfg,
    conv_norm,
    conv_norm_relu,
    make_stages,
)

# Expansion, width, number of blocks and stride of each stage.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class InvertedResidual(nn.Module):
    """conv1x1, depthwise conv3x3, linear conv1x1.

    The input is added to the output if their shapes are equal.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        stride (int): Stride of the depthwise convolution.
        expansion (int): Channels of the depthwise convolution divided by
            ``in_channels``.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, expansion: int
    ) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.with_shortcut = stride == 1 and in_channels == out_channels
        self.conv = nn.Sequential(
            *conv_norm_relu(in_channels, hidden, 1),
            *conv_norm_relu(hidden, hidden, 3, stride, groups=hidden),
            *conv_norm(hidden, out_channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.with_shortcut else self.conv(x)


@MODELS.register_module()
class CIFARMobileNetV2(CIFARBackbone):
    """MobileNetV2 for 32x32 images, by default half as wide as the paper's.

    Differences from the paper: strides are 2 in the stem and in stages 2, 3
    and 5, so that the last map is a sixteenth of the input, 2x2; ReLU is used
    instead of ReLU6; the first block has a 1x1 convolution, with expansion 1;
    widths are rounded down. Stages 0 to 6 end without ReLU; stage 7 is the
    last 1x1 convolution.

    Args:
        width_mult (float): Factor of the paper's widths. The last 1x1
            convolution has ``1280 * max(width_mult, 1)`` channels.
        out_indices (Sequence[int]): Stages whose outputs are returned.
        init_cfg (dict | list[dict], optional): MMEngine's initialization.
    """

    def __init__(
        self,
        width_mult: float = 0.5,
        out_indices: Sequence[int] = (7,),
        init_cfg: InitCfg = KAIMING,
    ) -> None:
        widths = [int(32 * width_mult)]
        stem = conv_norm_relu(3, widths[0], 3, stride=2)
        stages = []
        for expansion, width, depth, stride in STAGES:
            widths.append(int(width * width_mult))
            block = partial(InvertedResidual, expansion=expansion)
            stages += make_stages(block, widths[-2:], [depth], [stride])
        widths.append(int(1280 * max(width_mult, 1)))
        stages.append(conv_norm_relu(*widths[-2:], 1))
        super().__init__(stem, stages, widths[1:], out_indices, init_cfg)
