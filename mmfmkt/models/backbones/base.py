"""What the CIFAR backbones share: a stem, stages, and those returned.

The architectures are those of RepDistiller, the code of Contrastive
Representation Distillation (arXiv 1910.10699), which mdistiller and most
distillation results on CIFAR-100 use; MMPretrain's networks of the same
names have other widths and strides.
"""

from typing import Callable, Optional, Sequence, Tuple, Union

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmfmkt.utils import ConfigError

InitCfg = Optional[Union[dict, Sequence[dict]]]

# Normal by fan-out, biases zero, as in RepDistiller.
KAIMING = dict(type='Kaiming', layer='Conv2d')


def conv_norm_relu(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    stride: int = 1,
    groups: int = 1,
    bias: bool = False,
) -> nn.Sequential:
    """Convolution that keeps the size but for its stride, norm and ReLU.

    ReLU is not in place, so that what a forward hook sees of the norm stays
    as it was.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        kernel_size (int): Side of the kernel, odd.
        stride (int): Stride.
        groups (int): Groups of the convolution.
        bias (bool): Whether the convolution has a bias.
    """
    return nn.Sequential(
        nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            kernel_size // 2,
            groups=groups,
            bias=bias,
        ),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


def make_stage(
    block: Callable[[int, int, int], nn.Module],
    num_blocks: int,
    in_channels: int,
    out_channels: int,
    stride: int,
) -> nn.Sequential:
    """Blocks of one width, of which the first has the stride.

    Args:
        block (Callable): Makes a block of input channels, output channels
            and stride.
        num_blocks (int): Number of blocks.
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        stride (int): Stride of the first block.
    """
    return nn.Sequential(
        block(in_channels, out_channels, stride),
        *(block(out_channels, out_channels, 1) for _ in range(num_blocks - 1)),
    )


class CIFARBackbone(BaseModule):
    """A stem and stages in a row, without pooling and classifier.

    MMPretrain's ``GlobalAveragePooling`` and ``LinearClsHead`` follow.

    Args:
        stem (nn.Module): From the images to the first stage.
        stages (Sequence[nn.Module]): The stages.
        stage_channels (Sequence[int]): Channels that each stage gives.
        out_indices (Sequence[int]): Stages whose outputs are returned,
            counted from 0.
        init_cfg (dict | list[dict], optional): MMEngine's initialisation.

    Attributes:
        stage_channels (tuple[int]): Channels that each stage gives.

    Raises:
        ConfigError: If ``out_indices`` names no stage, or one that is not
            there.
    """

    def __init__(
        self,
        stem: nn.Module,
        stages: Sequence[nn.Module],
        stage_channels: Sequence[int],
        out_indices: Sequence[int],
        init_cfg: InitCfg,
    ) -> None:
        super().__init__(init_cfg)
        if not out_indices or not set(out_indices) <= set(range(len(stages))):
            raise ConfigError(
                f'backbone.out_indices of {type(self).__name__} must name '
                f'stages from 0 to {len(stages) - 1}, but is {out_indices}.'
            )
        self.stage_channels = tuple(stage_channels)
        self.out_indices = tuple(out_indices)
        self.stem = stem
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> Tuple[Tensor, ...]:
        """Compute feature maps.

        Args:
            x (Tensor): Images ``(B, 3, H, W)``, 32x32 as a rule.

        Returns:
            tuple[Tensor]: Maps ``(B, C, H, W)`` of the stages in
            ``out_indices``, from the first to the last.
        """
        x = self.stem(x)
        outs = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in self.out_indices:
                outs.append(x)
        return tuple(outs)
