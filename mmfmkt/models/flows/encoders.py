"""Meta-encoders g(Z_t, t): networks that predict the velocity.

Input and output are ``(B, C, H, W)`` for any C, H, W; time is added to the
input as one number per channel (arXiv 2402.02012, section 3.2).
"""

from abc import ABCMeta

from torch import Tensor, nn

from mmfmkt.registry import MODELS

from .time_embedding import TimeEmbedding


class MetaEncoder(nn.Module, metaclass=ABCMeta):
    """Base of the encoders: a time embedding and the layers of a subclass.

    Args:
        channels (int): C of the state.
        layers (nn.Sequential): Maps ``(B, C, H, W)`` to the same shape; its
            last layer has the weights that ``zero_init`` clears.
        zero_init (bool): Whether the last layer starts at zero. The velocity
            then starts at zero too: the flow starts as the identity and its
            loss as the plain metric's, so a short schedule need not learn
            the flow before the flow can teach.
    """

    def __init__(self, channels: int, layers: nn.Sequential,
                 zero_init: bool) -> None:
        super().__init__()
        self.time_embedding = TimeEmbedding(channels)
        self.layers = layers
        if zero_init:
            for parameter in layers[-1].parameters():
                nn.init.zeros_(parameter)

    def forward(self, state: Tensor, t: float) -> Tensor:
        """Predict the velocity.

        Args:
            state (Tensor): ``Z_t``, ``(B, C, H, W)``.
            t (float): Time in (0, 1].

        Returns:
            Tensor: v, ``(B, C, H, W)``.
        """
        return self.layers(state + self.time_embedding(t))


@MODELS.register_module()
class ConvEncoder(MetaEncoder):
    """SiLU, conv3x3, GroupNorm(1), SiLU, conv3x3; no bias.

    Args:
        channels (int): C of the state.
        zero_init (bool): Whether the flow starts as the identity.
    """

    def __init__(self, channels: int, zero_init: bool = True) -> None:
        layers = nn.Sequential(
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.GroupNorm(1, channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        )
        super().__init__(channels, layers, zero_init)


@MODELS.register_module()
class ConvNeXtEncoder(MetaEncoder):
    """Depthwise conv7x7, norm, conv1x1 up, GELU, conv1x1 down.

    The light one for detection maps: some 8 C^2 + 49 C weights to the conv
    encoder's 18 C^2.

    Args:
        channels (int): C of the state.
        expansion (int): Width of the hidden layer in units of C.
        zero_init (bool): Whether the flow starts as the identity.
    """

    def __init__(self,
                 channels: int,
                 expansion: int = 4,
                 zero_init: bool = True) -> None:
        hidden = channels * expansion
        layers = nn.Sequential(
            nn.Conv2d(channels, channels, 7, padding=3, groups=channels),
            nn.GroupNorm(1, channels),
            nn.Conv2d(channels, hidden, 1),
            nn.GELU(),
            nn.Conv2d(hidden, channels, 1),
        )
        super().__init__(channels, layers, zero_init)
