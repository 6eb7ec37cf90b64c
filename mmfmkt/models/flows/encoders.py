"""Meta-encoders g(Z_t, t): networks that predict the velocity or the target.

Input and output are ``(B, C, H, W)`` for any C, H, W, or ``(B, C)`` where an
encoder takes vectors; time is added to the input as one number per channel
(arXiv 2402.02012, section 3.2).
"""

from abc import ABCMeta

from torch import Tensor, nn

from mmfmkt.registry import MODELS

from .time_embedding import TimeEmbedding
from .window_attention import WindowAttention


class MetaEncoder(nn.Module, metaclass=ABCMeta):
    """Base of the encoders: a time embedding and the layers of a subclass.

    A subclass takes ``channels`` first and hands the other arguments below
    on, since the flow sets them where a config does not.

    Args:
        channels (int): C of the state.
        layers (nn.Sequential): Maps a state to the same shape; its last
            layer has the weights that ``zero_init`` clears.
        zero_init (bool): Whether the flow starts as the identity: the last
            layer starts at zero, and the flow takes what the encoder gives
            as the difference from staying where it is. Its loss then starts
            as the plain metric's, so a short schedule need not learn the
            flow before the flow can teach.
        deep_time (bool): Whether the time embedding has two layers, as is
            usual for logits, instead of one.

    Attributes:
        takes_vectors (bool): Whether it takes ``(B, C)`` as well.
    """

    takes_vectors = False

    def __init__(
        self,
        channels: int,
        layers: nn.Sequential,
        zero_init: bool = True,
        deep_time: bool = False,
    ) -> None:
        super().__init__()
        self.zero_init = zero_init
        self.time_embedding = TimeEmbedding(channels, deep_time)
        self.layers = layers
        if zero_init:
            for parameter in layers[-1].parameters():
                nn.init.zeros_(parameter)

    def forward(self, state: Tensor, t: float) -> Tensor:
        """Predict the velocity, or the target.

        Args:
            state (Tensor): ``Z_t``, ``(B, C, H, W)`` or ``(B, C)``.
            t (float): Time in (0, 1].

        Returns:
            Tensor: Shape of ``state``.
        """
        time = self.time_embedding(t)
        return self.layers(state + time.view(-1, *[1] * (state.dim() - 2)))


@MODELS.register_module()
class ConvEncoder(MetaEncoder):
    """SiLU, conv3x3, GroupNorm(1), SiLU, conv3x3; no bias.

    Args:
        channels (int): C of the state.
        kwargs: ``zero_init`` and ``deep_time`` of :class:`MetaEncoder`.
    """

    def __init__(self, channels: int, **kwargs) -> None:
        layers = nn.Sequential(
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.GroupNorm(1, channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        )
        super().__init__(channels, layers, **kwargs)


@MODELS.register_module()
class DepthwiseConvEncoder(MetaEncoder):
    """ReLU, conv1x1, GroupNorm(1), ReLU, depthwise conv3x3.

    Args:
        channels (int): C of the state.
        kwargs: ``zero_init`` and ``deep_time`` of :class:`MetaEncoder`.
    """

    def __init__(self, channels: int, **kwargs) -> None:
        layers = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels, channels, 1),
            nn.GroupNorm(1, channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels),
        )
        super().__init__(channels, layers, **kwargs)


class Residual(nn.Module):
    """``x + layers(x)``."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class ChannelsLast(nn.Sequential):
    """Layers that act on the last dimension, applied to the channels."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


@MODELS.register_module()
class MLPEncoder(MetaEncoder):
    """n times: x + conv1x1-ReLU-conv1x1, then layer norm over channels.

    Args:
        channels (int): C of the state.
        num_blocks (int): n.
        expansion (int): Width of the hidden layers in units of C.
        kwargs: ``zero_init`` and ``deep_time`` of :class:`MetaEncoder`.
    """

    takes_vectors = True

    def __init__(
        self, channels: int, num_blocks: int = 2, expansion: int = 1, **kwargs
    ) -> None:
        hidden = channels * expansion
        layers = []
        for _ in range(num_blocks):
            # On the channels, a linear layer is a 1x1 convolution of maps.
            layers += [
                ChannelsLast(
                    Residual(
                        nn.Linear(channels, hidden),
                        nn.ReLU(),
                        nn.Linear(hidden, channels),
                    )
                ),
                ChannelsLast(nn.LayerNorm(channels)),
            ]
        super().__init__(channels, nn.Sequential(*layers), **kwargs)


@MODELS.register_module()
class TransformerEncoder(MetaEncoder):
    """Window attention, plain and shifted, each with a feed-forward part.

    Two pre-norm blocks as in Swin (arXiv 2103.14030) and a 1x1 convolution
    that gives the velocity.

    Args:
        channels (int): C of the state.
        num_heads (int): Attention heads.
        head_dim (int): Channels of a head.
        window (int): Side of a window in pixels of the map; maps that it
            does not divide are padded, and what is padded is not attended.
        expansion (int): Width of the feed-forward part in units of C.
        kwargs: ``zero_init`` and ``deep_time`` of :class:`MetaEncoder`.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int = 4,
        head_dim: int = 64,
        window: int = 7,
        expansion: int = 2,
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
        layers = nn.Sequential(*blocks, nn.Conv2d(channels, channels, 1))
        super().__init__(channels, layers, **kwargs)


@MODELS.register_module()
class ConvNeXtEncoder(MetaEncoder):
    """Depthwise conv7x7, norm, conv1x1 up, GELU, conv1x1 down.

    The light one for detection maps: some 8 C^2 + 49 C weights to the conv
    encoder's 18 C^2.

    Args:
        channels (int): C of the state.
        expansion (int): Width of the hidden layer in units of C.
        kwargs: ``zero_init`` and ``deep_time`` of :class:`MetaEncoder`.
    """

    def __init__(self, channels: int, expansion: int = 4, **kwargs) -> None:
        hidden = channels * expansion
        layers = nn.Sequential(
            nn.Conv2d(channels, channels, 7, padding=3, groups=channels),
            nn.GroupNorm(1, channels),
            nn.Conv2d(channels, hidden, 1),
            nn.GELU(),
            nn.Conv2d(hidden, channels, 1),
        )
        super().__init__(channels, layers, **kwargs)
