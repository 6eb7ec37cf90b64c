"""Base class and layers of the CIFAR backbones.

The architectures are those of RepDistiller, the code of Contrastive
Representation Distillation (arXiv 1910.10699), which mdistiller and most
distillation results on CIFAR-100 use; MMPretrain's networks of the same
names have other widths and strides.
"""

from typing import (
    Any,
    Callable,
    List,
    Mapping,
    Optional,
    Sequence,
    Tuple,
    Union,
)

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmfmkt.utils import ConfigError

InitCfg = Optional[Union[dict, Sequence[dict]]]

# Kaiming normal initialization by fan-out and zero biases, as in RepDistiller.
KAIMING = dict(type='Kaiming', layer='Conv2d')


def conv(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    stride: int = 1,
    groups: int = 1,
    bias: bool = False,
) -> nn.Conv2d:
    """Build a convolution whose padding keeps the size at stride 1.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        kernel_size (int): Side of the kernel, odd.
        stride (int): Stride.
        groups (int): Groups of the convolution.
        bias (bool): Whether the convolution has a bias.
    """
    padding = kernel_size // 2
    return nn.Conv2d(
        in_channels,
        out_channels,
        kernel_size,
        stride,
        padding,
        groups=groups,
        bias=bias,
    )


def conv_norm(*args: Any, **kwargs: Any) -> nn.Sequential:
    """Build a convolution and a batch norm; arguments as :func:`conv`."""
    layer = conv(*args, **kwargs)
    return nn.Sequential(layer, nn.BatchNorm2d(layer.out_channels))


def conv_norm_relu(*args: Any, **kwargs: Any) -> nn.Sequential:
    """Build a convolution, a batch norm and ReLU; arguments as :func:`conv`.

    ReLU is not in place: a forward hook on the norm reads its output.
    """
    return nn.Sequential(*conv_norm(*args, **kwargs), nn.ReLU())


def make_stages(
    block: Callable[[int, int, int], nn.Module],
    widths: Sequence[int],
    depths: Sequence[int],
    strides: Sequence[int],
) -> List[nn.Sequential]:
    """Build stages of blocks; the first block of a stage has its stride.

    Args:
        block (Callable): Function from input channels, output channels and
            stride to a block.
        widths (Sequence[int]): Channels of the input and of each stage.
        depths (Sequence[int]): Number of blocks of each stage.
        strides (Sequence[int]): Stride of each stage.
    """
    return [
        nn.Sequential(
            block(in_channels, width, stride),
            *(block(width, width, 1) for _ in range(depth - 1)),
        )
        for in_channels, width, depth, stride in zip(
            widths, widths[1:], depths, strides
        )
    ]


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """Interleave the channels of several groups (arXiv 1707.01083, Fig. 1).

    Args:
        x (Tensor): ``(B, C, H, W)``, with the channels of a group next to each
            other.
        groups (int): Number of groups, a divisor of C.

    Returns:
        Tensor: Shape of ``x``.
    """
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


def depth_per_stage(network: str, depth: int, extra: int) -> int:
    """Return the number n of blocks per stage of a network with 6n + ``extra``
    layers.

    Args:
        network (str): Class of the network, for the error.
        depth (int): Number of layers.
        extra (int): Layers outside the blocks.

    Raises:
        ConfigError: If there is no such n.
    """
    num_blocks, remainder = divmod(depth - extra, 6)
    if num_blocks < 1 or remainder:
        raise ConfigError(
            f'backbone.depth of {network} must be 6n + {extra}, such as '
            f'{12 + extra}, {18 + extra} or {36 + extra}, got {depth}.'
        )
    return num_blocks


def select_architecture(key: str, value: Any, table: Mapping) -> Any:
    """Return the entry of an architecture table.

    Args:
        key (str): Config key and network for the error, such as ``'depth of
            CIFARVGG'``.
        value (Any): Value of the key.
        table (Mapping): The architectures by value.

    Raises:
        ConfigError: If the table has no such value.
    """
    if value not in table:
        *values, last = map(str, table)
        raise ConfigError(
            f'backbone.{key} must be {", ".join(values)} or {last}, '
            f'got {value}.'
        )
    return table[value]


class CIFARBackbone(BaseModule):
    """Stem and stages of a CIFAR network, without pooling and classifier.

    MMPretrain's ``GlobalAveragePooling`` and ``LinearClsHead`` follow.

    Args:
        stem (nn.Module): Layers before the first stage.
        stages (Sequence[nn.Module]): Stages, applied one after the other.
        stage_channels (Sequence[int]): Output channels of each stage.
        out_indices (Sequence[int]): Stages whose outputs are returned,
            counted from 0.
        init_cfg (dict | list[dict], optional): MMEngine's initialization.

    Attributes:
        stage_channels (tuple[int]): Output channels of each stage.

    Raises:
        ConfigError: If ``out_indices`` is empty or has an index without a
            stage.
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
                f'stages from 0 to {len(stages) - 1}, got {out_indices}.'
            )
        self.stage_channels = tuple(stage_channels)
        self.out_indices = tuple(out_indices)
        self.stem = stem
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> Tuple[Tensor, ...]:
        """Compute feature maps.

        Args:
            x (Tensor): Images ``(B, 3, H, W)``, usually 32x32.

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
