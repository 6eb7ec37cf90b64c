"""Window attention encoder."""

from torch import nn

from ...bounds import PositiveInt
from .base import MetaEncoder
from .layers import Residual
from .window_attention import WindowAttention


class TransformerEncoder(MetaEncoder):
    """Window attention, unshifted and shifted, each with an MLP.

    Two pre-norm blocks as in Swin (arXiv 2103.14030) and a 1x1 convolution
    for the prediction.

    Args:
        channels (int): C of the state.
        num_heads (int): Number of attention heads.
        head_dim (int): Channels of a head.
        window (int): Side of a window in pixels of the map. Maps whose sides
            are not multiples of it are padded, and the padding is masked.
        expansion (int): Channels of the MLPs' hidden layers divided by C.
        kwargs: ``zero_init`` and ``deep_time`` of `MetaEncoder`.

    Examples:
        >>> TransformerEncoder(8)(torch.randn(2, 8, 5, 5), 0.5).shape
        torch.Size([2, 8, 5, 5])
    """

    def __init__(
        self,
        channels: PositiveInt,
        num_heads: PositiveInt = 4,
        head_dim: PositiveInt = 64,
        window: PositiveInt = 7,
        expansion: PositiveInt = 2,
        **kwargs,
    ) -> None:
        hidden = channels * expansion
        blocks = []
        for shift in (0, window // 2):
            blocks += [
                Residual(
                    nn.GroupNorm(1, channels),
                    WindowAttention(
                        channels, num_heads, head_dim, window, shift
                    ),
                ),
                Residual(
                    nn.GroupNorm(1, channels),
                    nn.Conv2d(channels, hidden, 1),
                    nn.GELU(),
                    nn.Conv2d(hidden, channels, 1),
                ),
            ]
        layers = [*blocks, nn.Conv2d(channels, channels, 1)]
        super().__init__(channels, layers, **kwargs)
