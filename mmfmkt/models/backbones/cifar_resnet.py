"""ResNet for CIFAR: Deep Residual Learning for Image Recognition
(arXiv 1512.03385), section 4.2, with projection shortcuts."""

from typing import Sequence

from torch import Tensor, nn

from mmfmkt.registry import MODELS
from mmfmkt.utils import ConfigError

from .base import KAIMING, CIFARBackbone, InitCfg, conv_norm_relu, make_stage


class BasicBlock(nn.Module):
    """relu(x + norm(conv(relu(norm(conv(x)))))), of 3x3 convolutions.

    Where the shape changes, x goes through a 1x1 convolution and a norm.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        stride (int): Stride of the first convolution.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(
            in_channels, out_channels, 3, stride, padding=1, bias=False
        )
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(
            out_channels, out_channels, 3, padding=1, bias=False
        )
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU()
        self.downsample = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.relu(out + self.downsample(x))


@MODELS.register_module()
class CIFARResNet(CIFARBackbone):
    """ResNet-{8, 14, 20, 32, 44, 56, 110}, also four times as wide.

    Stages: 0 at full size, 1 at half, 2 at a quarter of it. Their outputs
    are those of the last block's last ReLU; RepDistiller's ``preact=True``
    takes what enters that ReLU instead.

    Args:
        depth (int): Number of layers, 6n + 2.
        widths (Sequence[int]): Channels of the stem and of the three stages.
            ResNet-8x4 and ResNet-32x4 have (32, 64, 128, 256).
        out_indices (Sequence[int]): Stages whose outputs are returned.
        init_cfg (dict | list[dict], optional): MMEngine's initialisation.

    Raises:
        ConfigError: If ``depth`` or ``widths`` are none of a ResNet.
    """

    def __init__(
        self,
        depth: int,
        widths: Sequence[int] = (16, 16, 32, 64),
        out_indices: Sequence[int] = (2,),
        init_cfg: InitCfg = KAIMING,
    ) -> None:
        num_blocks, rest = divmod(depth - 2, 6)
        if num_blocks < 1 or rest:
            raise ConfigError(
                'backbone.depth of CIFARResNet must be 6n + 2, '
                f'such as 8, 20 or 56, but is {depth}.'
            )
        if len(widths) != 4:
            raise ConfigError(
                'backbone.widths of CIFARResNet must be those of the stem and '
                f'of three stages, but is {widths}.'
            )
        stages = [
            make_stage(
                BasicBlock, num_blocks, in_channels, out_channels, stride
            )
            for in_channels, out_channels, stride in zip(
                widths, widths[1:], (1, 2, 2)
            )
        ]
        super().__init__(
            conv_norm_relu(3, widths[0], 3),
            stages,
            widths[1:],
            out_indices,
            init_cfg,
        )
