"""ConvNeXt encoder (arXiv 2201.03545)."""

from torch import nn

from ...bounds import PositiveInt
from .base import MetaEncoder
from .layers import Residual


class ConvNeXtEncoder(MetaEncoder):
    """Depthwise conv7x7, GroupNorm(1), conv1x1 up, GELU, conv1x1 down.

    With ``expansion=4``, a block has about 8 C^2 + 49 C weights; `ConvEncoder`
    has 18 C^2.

    Args:
        channels (int): C of the state.
        expansion (int): Channels of the hidden layer divided by C.
        num_blocks (int): Number of blocks. All but the last, whose output is
            the prediction, have a skip connection.
        kwargs: ``zero_init`` and ``deep_time`` (two layers for the time
            embedding), see `MetaEncoder`.

    Examples:
        >>> ConvNeXtEncoder(8)(torch.randn(2, 8, 5, 5), 0.5).shape
        torch.Size([2, 8, 5, 5])
    """

    def __init__(
        self,
        channels: PositiveInt,
        expansion: PositiveInt = 4,
        num_blocks: PositiveInt = 1,
        **kwargs,
    ) -> None:
        hidden = channels * expansion
        blocks = [
            [
                nn.Conv2d(channels, channels, 7, padding=3, groups=channels),
                nn.GroupNorm(1, channels),
                nn.Conv2d(channels, hidden, 1),
                nn.GELU(),
                nn.Conv2d(hidden, channels, 1),
            ]
            for _ in range(num_blocks)
        ]
        layers = [Residual(*block) for block in blocks[:-1]] + blocks[-1]
        super().__init__(channels, layers, **kwargs)
