"""Pointwise MLP encoder, for maps and vectors."""

from torch import Tensor, nn

from ...bounds import PositiveInt
from .base import MetaEncoder
from .layers import Residual


class MLPEncoder(MetaEncoder):
    """Blocks ``LayerNorm(x + conv1x1(ReLU(conv1x1(x))))``, normalized over
    the channels.

    Args:
        channels (int): C of the state.
        num_blocks (int): Number of blocks.
        expansion (int): Channels of the hidden layers divided by C.
        kwargs: ``zero_init`` and ``deep_time`` of `MetaEncoder`.

    Examples:
        >>> MLPEncoder(8)(torch.randn(2, 8), 0.5).shape
        torch.Size([2, 8])
    """

    takes_vectors = True

    def __init__(
        self,
        channels: PositiveInt,
        num_blocks: PositiveInt = 2,
        expansion: PositiveInt = 1,
        **kwargs,
    ) -> None:
        hidden = channels * expansion
        layers = []
        for _ in range(num_blocks):
            layers += [
                Residual(
                    nn.Linear(channels, hidden),
                    nn.ReLU(inplace=True),
                    nn.Linear(hidden, channels),
                ),
                nn.LayerNorm(channels),
            ]
        super().__init__(channels, layers, **kwargs)

    def body(self, projected: Tensor, time: Tensor) -> Tensor:
        # A linear layer over channels is a 1x1 convolution.
        channels_last = projected.movedim(1, -1) + time
        return self.body_layers(channels_last).movedim(projected.dim() - 1, 1)
