"""Base class of the meta-encoders g(Z_t, t).

They predict the velocity or the target. Time is added to the input as one
number per channel (arXiv 2402.02012, section 3.2).
"""

from abc import ABCMeta
from typing import Optional, Sequence

from torch import Tensor, nn

from .layers import CompilableSequential
from .time_embedding import TimeEmbedding


class MetaEncoder(nn.Module, metaclass=ABCMeta):
    """Base class of the encoders: a time embedding and layers.

    The constructor of a subclass has ``channels`` as its first argument and
    passes ``zero_init`` and ``deep_time`` to this class. The default of
    ``deep_time`` in a distiller depends on the tap.

    An encoder is ``proj_out(body(proj_in(state), t))``, where ``proj_in`` and
    ``proj_out`` are linear. By default they are identities. The states of an
    encoder with projections are outputs of ``proj_in`` (``sampler.py``).

    Args:
        channels (int): C of the state.
        layers (Sequence[nn.Module]): Layers whose output has the shape of the
            state. The first layer may modify its input in place.
        zero_init (bool): Whether the flow starts as the identity: the last
            layer (of a container: the last module with parameters, in the
            order of registration) starts at zero, and its output is added to
            the velocity for which X_hat = X_S. The initial loss is then equal
            to that without a flow, so the student is distilled from the first
            iteration on.
        deep_time (bool): Whether the time embedding has two layers, as is
            usual for logits, instead of one.

    Attributes:
        takes_vectors (bool): Whether ``(B, C)`` is accepted as well.
        has_projections (bool): Whether ``proj_in`` and ``proj_out`` are not
            identities.

    Examples:
        >>> class PixelEncoder(MetaEncoder):
        ...     def __init__(self, channels, **kwargs):
        ...         layers = [torch.nn.Conv2d(channels, channels, 1)]
        ...         super().__init__(channels, layers, **kwargs)
        >>> PixelEncoder(8)(torch.randn(2, 8, 5, 5), 0.5).shape
        torch.Size([2, 8, 5, 5])
    """

    takes_vectors = False
    has_projections = False

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
        self.layers = CompilableSequential(*layers)
        if zero_init:
            own = [
                [*x.parameters(recurse=False)] for x in layers[-1].modules()
            ]
            if not any(own):
                raise ValueError(
                    'zero_init needs a last layer with parameters, got '
                    f'{type(layers[-1]).__name__}: append a linear layer, or '
                    'set zero_init to False.'
                )
            for parameter in next(filter(None, reversed(own))):
                nn.init.zeros_(parameter)

    def forward(self, state: Tensor, t: float) -> Tensor:
        """Predict the velocity or the target.

        Args:
            state (Tensor): ``Z_t``, ``(B, C, H, W)`` or ``(B, C)``.
            t (float): Time in (0, 1].

        Returns:
            Tensor: Shape of ``state``.
        """
        (time,) = self.embed_times((t,))
        return self.proj_out(self.body(self.proj_in(state), time), state)

    def proj_in(self, state: Tensor) -> Tensor:
        """Apply the linear first part, from a state to the input of ``body``.

        Args:
            state (Tensor): ``Z_t``.
        """
        return state

    def embed_times(self, times: Sequence[float]) -> Tensor:
        """Return the embeddings that are added to ``body``'s input.

        Args:
            times (Sequence[float]): Times in (0, 1]. Embedding all times in
                one call launches as many kernels as embedding one time.

        Returns:
            Tensor: ``(len(times), C')``, where C' is the number of channels
            of ``body``'s input.
        """
        return self.time_embedding(times)

    def body(self, projected: Tensor, time: Tensor) -> Tensor:
        """Apply the nonlinear part.

        Args:
            projected (Tensor): Output of ``proj_in``.
            time (Tensor): A row of ``embed_times``.
        """
        return self.body_layers(
            projected + time.view(-1, *[1] * (projected.dim() - 2))
        )

    def proj_out(self, hidden: Tensor, like: Tensor) -> Tensor:
        """Apply the linear last part; the output has the shape of ``like``.

        Args:
            hidden (Tensor): Output of ``body``.
            like (Tensor): A state.
        """
        return hidden

    def fused_weight(self) -> Optional[Tensor]:
        """Return the product of the weights of ``proj_out`` and ``proj_in``.

        ``update`` uses it in all steps. None for an encoder without
        projections.
        """
        return None

    def update(
        self, hidden: Tensor, like: Tensor, fused_weight: Optional[Tensor]
    ) -> Tensor:
        """Return ``proj_in(proj_out(hidden, like))``.

        Args:
            hidden (Tensor): Output of ``body``.
            like (Tensor): A state.
            fused_weight (Tensor, optional): Result of ``fused_weight``.
        """
        return hidden

    @property
    def body_layers(self) -> nn.Module:
        """Layers of ``body``, which are compiled."""
        return self.layers
