"""VGG for CIFAR: Very Deep Convolutional Networks for Large-Scale Image
Recognition (arXiv 1409.1556), with batch norm and one linear layer."""

from typing import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from mmfmkt.registry import MODELS

from .base import (
    KAIMING,
    CIFARBackbone,
    InitCfg,
    conv_norm_relu,
    select_architecture,
)

# Output channels of each stage.
WIDTHS = (64, 128, 256, 512, 512)
# Number of convolutions of each stage, by depth.
DEPTHS = {
    8: (1, 1, 1, 1, 1),
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}


class PooledStage(nn.Sequential):
    """2x2 max-pooling, followed by layers."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.max_pool2d(x, 2))


@MODELS.register_module()
class CIFARVGG(CIFARBackbone):
    """VGG-{8, 11, 13, 16, 19} with batch norm, for 32x32 images.

    Five stages, each ending with a ReLU. Max-pooling precedes stages 1, 2
    and 3; stages 3 and 4 are both at an eighth of the input's size. Global
    average pooling gets 4x4 maps.

    Args:
        depth (int): 8, 11, 13, 16 or 19: three linear layers, as in the
            paper, and the convolutions. The head here has one linear layer.
        out_indices (Sequence[int]): Stages whose outputs are returned.
        init_cfg (dict | list[dict], optional): MMEngine's initialization.

    Raises:
        ConfigError: If ``depth`` has another value.
    """

    def __init__(
        self,
        depth: int,
        out_indices: Sequence[int] = (4,),
        init_cfg: InitCfg = KAIMING,
    ) -> None:
        depths = select_architecture('depth of CIFARVGG', depth, DEPTHS)
        stages = []
        in_channels = 3
        for index, width in enumerate(WIDTHS):
            layers = []
            for _ in range(depths[index]):
                layers += conv_norm_relu(in_channels, width, 3, bias=True)
                in_channels = width
            stage = PooledStage if index in (1, 2, 3) else nn.Sequential
            stages.append(stage(*layers))
        super().__init__(nn.Identity(), stages, WIDTHS, out_indices, init_cfg)
