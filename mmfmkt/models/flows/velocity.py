"""The velocity field: a meta-encoder read under a noise schedule.

``v = alpha'_t X_S + sigma'_t X_hat`` ties the velocity to the estimate of
the target (section 2 of the method): what the encoder gives is one of them.
"""

from typing import NamedTuple, Tuple

from torch import Tensor, nn

from .encoders import MetaEncoder
from .schedules import NoiseSchedule, combine

PREDICTIONS = ('velocity', 'target')


class Mixture(NamedTuple):
    """``source X_S + given g``, g being what the encoder gives."""

    source: float
    given: float

    def of(self, source: Tensor, given: Tensor) -> Tensor:
        """Return the mixture, shape of ``source``."""
        return combine(self.source, source, self.given, given)


class VelocityField(nn.Module):
    """The velocity at a state, and the target that it points at.

    Where the encoder starts as the identity (``zero_init``), what it gives
    counts from the velocity, or the target, of a flow that stays at the
    source.

    Args:
        encoder (MetaEncoder): g(Z_t, t).
        schedule (NoiseSchedule): alpha and sigma.
        prediction (str): What the encoder predicts, ``'velocity'`` or
            ``'target'``.

    Raises:
        ValueError: If ``prediction`` is neither.

    Examples:
        >>> field = VelocityField(ConvEncoder(8), RectifiedFlow())
        >>> source = torch.randn(2, 8, 5, 5)
        >>> velocity, estimate = field(source, source, 1.0)
        >>> torch.equal(estimate, source)  # it starts as the identity
        True
    """

    def __init__(
        self,
        encoder: MetaEncoder,
        schedule: NoiseSchedule,
        prediction: str = 'velocity',
    ) -> None:
        super().__init__()
        if prediction not in PREDICTIONS:
            raise ValueError(
                f'prediction must be one of {", ".join(PREDICTIONS)}, but is '
                f'{prediction!r}.'
            )
        self.encoder, self.schedule = encoder, schedule
        self.prediction = prediction

    def mixtures(self, t: float) -> Tuple[Mixture, Mixture]:
        """Of what velocity and estimate are made at a time.

        Args:
            t (float): Time in (0, 1].
        """
        at, rest = self.schedule(t), self.encoder.zero_init
        drift = at.d_alpha + at.d_sigma if rest else at.d_alpha
        if self.prediction == 'target':
            return Mixture(drift, at.d_sigma), Mixture(float(rest), 1.0)
        if rest:
            return Mixture(drift, 1.0), Mixture(1.0, 1 / at.d_sigma)
        share = -at.d_alpha / at.d_sigma
        return Mixture(0.0, 1.0), Mixture(share, 1 / at.d_sigma)

    def forward(
        self, source: Tensor, state: Tensor, t: float
    ) -> Tuple[Tensor, Tensor]:
        """Return velocity and estimate, both of the shape of ``source``.

        Args:
            source (Tensor): ``X_S``, float32 or better, any shape that the
                encoder takes.
            state (Tensor): ``Z_t``, shape of ``source``.
            t (float): Time in (0, 1].
        """
        given = self.encoder(state, t).to(source)
        velocity, estimate = self.mixtures(t)
        return velocity.of(source, given), estimate.of(source, given)
