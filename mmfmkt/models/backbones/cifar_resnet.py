"""ResNet for CIFAR: Deep Residual Learning for Image Recognition
(arXiv 1512.03385), section 4.2, with projection shortcuts."""

from typing import Sequence

from torch import Tensor, nn

from mmfmkt.registry import MODELS
from mmfmkt.utils import ConfigError

from .base import (
    KAIMING,
    CIFARBackbone,
    InitCfg,
    conv,
    conv_norm,
    conv_norm_relu,
    depth_per_stage,
    make_stages,
)


class BasicBlock(nn.Module):
    """relu(x + norm(conv(relu(norm(conv(x)))))), of 3x3 convolutions.

    If the shape changes, x goes through a 1x1 convolution and a norm.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        stride (int): Stride of the first convolution.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int
    ) -> None:
        super().__init__()
        self.conv1 = conv(in_channels, out_channels, 3, stride)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = conv(out_channels, out_channels, 3)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU()
        self.downsample = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.downsample = conv_norm(in_channels, out_channels, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.relu(out + self.downsample(x))


@MODELS.register_module()
class CIFARResNet(CIFARBackbone):
    """ResNet-{8, 14, 20, 32, 44, 56, 110}, and ResNet-{8, 32}x4.

    The outputs of stages 0, 1 and 2 have the size of the image, half and a
    quarter of it. They are taken after the last ReLU; RepDistiller's
    ``preact=True`` takes them before it.

    Args:
        depth (int): Number of layers, 6n + 2.
        widths (Sequence[int]): Channels of the stem and of the three stages.
            ResNet-8x4 and ResNet-32x4 have (32, 64, 128, 256), four times the
            default widths in the stages.
        out_indices (Sequence[int]): Stages whose outputs are returned.
        init_cfg (dict | list[dict], optional): MMEngine's initialization.

    Raises:
        ConfigError: If ``depth`` is not 6n + 2 or there are not four
            ``widths``.
    """

    def __init__(
        self,
        depth: int,
        widths: Sequence[int] = (16, 16, 32, 64),
        out_indices: Sequence[int] = (2,),
        init_cfg: InitCfg = KAIMING,
    ) -> None:
        depths = [depth_per_stage('CIFARResNet', depth, extra=2)] * 3
        if len(widths) != 4:
            raise ConfigError(
                'backbone.widths of CIFARResNet must have four values, of the '
                f'stem and of three stages, got {widths}.'
            )
        stages = make_stages(BasicBlock, widths, depths, (1, 2, 2))
        stem = conv_norm_relu(3, widths[0], 3)
        super().__init__(stem, stages, widths[1:], out_indices, init_cfg)
