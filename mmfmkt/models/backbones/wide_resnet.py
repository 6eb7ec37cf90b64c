"""WRN: Wide Residual Networks (arXiv 1605.07146)."""

from collections import OrderedDict
from typing import Sequence

from torch import Tensor, nn

from mmfmkt.registry import MODELS

from .base import (
    KAIMING,
    CIFARBackbone,
    InitCfg,
    conv,
    depth_per_stage,
    make_stages,
)


class PreActBlock(nn.Module):
    """x + conv(relu(norm(conv(relu(norm(x)))))), of 3x3 convolutions.

    If the width changes, the shortcut is a 1x1 convolution of relu(norm(x))
    instead of x.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        stride (int): Stride of the first convolution; 1 if the width
            does not change.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int
    ) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = conv(in_channels, out_channels, 3, stride)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.conv2 = conv(out_channels, out_channels, 3)
        self.relu = nn.ReLU()
        self.shortcut = None
        if in_channels != out_channels:
            self.shortcut = conv(in_channels, out_channels, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        activated = self.relu(self.bn1(x))
        out = self.conv2(self.relu(self.bn2(self.conv1(activated))))
        return out + (x if self.shortcut is None else self.shortcut(activated))


@MODELS.register_module()
class WideResNet(CIFARBackbone):
    """WRN-{16, 40}-{1, 2} and others, without dropout.

    The outputs of stages 0, 1 and 2 have the size of the image, half and a
    quarter of it. As norm and ReLU precede the convolutions, stages 0 and 1
    end with a residual sum, without a ReLU. Stage 2 includes the last norm and
    ReLU, whose output is pooled. The feature before them, which RepDistiller
    distills, is the output of ``stages.2.blocks``.

    Args:
        depth (int): Number of layers, 6n + 4.
        widen_factor (int): Factor of the stages' widths, 16, 32 and 64.
        out_indices (Sequence[int]): Stages whose outputs are returned.
        init_cfg (dict | list[dict], optional): MMEngine's initialization.

    Raises:
        ConfigError: If ``depth`` is not 6n + 4.
    """

    def __init__(
        self,
        depth: int,
        widen_factor: int = 1,
        out_indices: Sequence[int] = (2,),
        init_cfg: InitCfg = KAIMING,
    ) -> None:
        depths = [depth_per_stage('WideResNet', depth, extra=4)] * 3
        widths = (16, 16 * widen_factor, 32 * widen_factor, 64 * widen_factor)
        stages = make_stages(PreActBlock, widths, depths, (1, 2, 2))
        stages[-1] = nn.Sequential(
            OrderedDict(
                blocks=stages[-1],
                norm=nn.BatchNorm2d(widths[-1]),
                relu=nn.ReLU(),
            )
        )
        stem = conv(3, widths[0], 3)
        super().__init__(stem, stages, widths[1:], out_indices, init_cfg)
