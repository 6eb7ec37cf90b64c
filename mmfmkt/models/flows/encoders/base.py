"""What the meta-encoders g(Z_t, t) share.

Networks that predict the velocity or the target; time is added to the input
as one number per channel (arXiv 2402.02012, section 3.2).
"""

from abc import ABCMeta
from typing import Optional, Sequence

from torch import Tensor, nn

from .layers import Layers
from .time_embedding import TimeEmbedding


class MetaEncoder(nn.Module, metaclass=ABCMeta):
    """Base of the encoders: a time embedding and the layers of a subclass.

    A subclass takes ``channels`` first and hands the other arguments below
    on, since the flow sets them where a config does not.

    An encoder is read as ``leave(inside(enter(state), t))``, of which enter
    and leave are linear. Here they are identities; an encoder that narrows
    its input first lets the flow walk in the narrow space (``walk.py``).

    Args:
        channels (int): C of the state.
        layers (Sequence[nn.Module]): One after the other they map a state to
            the same shape; the last has the weights that ``zero_init``
            clears. The first gets a tensor of its own, which it may
            overwrite.
        zero_init (bool): Whether the flow starts as the identity: the last
            layer starts at zero, and the flow takes what the encoder gives
            as the difference from staying where it is. Its loss then starts
            as the plain metric's, so a short schedule need not learn the
            flow before the flow can teach.
        deep_time (bool): Whether the time embedding has two layers, as is
            usual for logits, instead of one.

    Attributes:
        takes_vectors (bool): Whether it takes ``(B, C)`` as well.
        narrows (bool): Whether ``enter`` and ``leave`` are not identities.

    Examples:
        >>> class PixelEncoder(MetaEncoder):
        ...     def __init__(self, channels, **kwargs):
        ...         layers = [torch.nn.Conv2d(channels, channels, 1)]
        ...         super().__init__(channels, layers, **kwargs)
        >>> PixelEncoder(8)(torch.randn(2, 8, 5, 5), 0.5).shape
        torch.Size([2, 8, 5, 5])
    """

    takes_vectors = False
    narrows = False

    def __init__(
        self,
        channels: int,
        layers: Sequence[nn.Module],
        zero_init: bool = True,
        deep_time: bool = False,
    ) -> None:
        super().__init__()
        self.channels, self.zero_init = channels, zero_init
        self.time_embedding = TimeEmbedding(channels, deep_time)
        self.layers = Layers(*layers)
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
        (time,) = self.embed((t,))
        return self.leave(self.inside(self.enter(state), time), state)

    def enter(self, state: Tensor) -> Tensor:
        """The first, linear part: what ``inside`` reads."""
        return state

    def embed(self, times: Sequence[float]) -> Tensor:
        """What each time adds to what is entered, one number per channel.

        Args:
            times (Sequence[float]): Times in (0, 1]: all of a walk at once,
                which takes as many kernels as one of them.

        Returns:
            Tensor: ``(len(times), C')``, C' channels being entered.
        """
        return self.time_embedding(times)

    def inside(self, entered: Tensor, time: Tensor) -> Tensor:
        """All that is not linear; ``time`` is a row of ``embed``."""
        return self.core(entered + time.view(-1, *[1] * (entered.dim() - 2)))

    def leave(self, inner: Tensor, like: Tensor) -> Tensor:
        """The last, linear part: shape of ``like``."""
        return inner

    def joint(self) -> Optional[Tensor]:
        """What all turns of a walk share."""
        return None

    def turn(
        self, inner: Tensor, like: Tensor, joint: Optional[Tensor]
    ) -> Tensor:
        """``enter(leave(inner, like))``."""
        return inner

    @property
    def core(self) -> nn.Module:
        """The layers of ``inside``: what it pays to compile."""
        return self.layers
