"""Velocity field: a meta-encoder under a noise schedule.

The velocity v and the estimate X_hat of the target satisfy ``v = alpha'_t X_S
+ sigma'_t X_hat``, where alpha'_t and sigma'_t are the derivatives of the
noise schedule. The encoder predicts one of the two.
"""

from typing import NamedTuple, Tuple

from torch import Tensor, nn

from ..tensor_ops import linear_combination
from .encoders.base import MetaEncoder
from .schedules import NoiseSchedule

PREDICTIONS = ('velocity', 'target')


class Coefficients(NamedTuple):
    """Coefficients of the source ``X_S`` and of the encoder's output."""

    source: float
    output: float

    def combine(self, source: Tensor, output: Tensor) -> Tensor:
        """Return the linear combination, of the shape of ``source``."""
        return linear_combination(self.source, source, self.output, output)


class VelocityField(nn.Module):
    """Velocity at a state, and the estimate of the target.

    If the flow starts as the identity (``encoder.zero_init``), the encoder
    predicts a difference: of the velocity and ``(alpha'_t + sigma'_t) X_S``,
    or of the target and ``X_S``.

    Args:
        encoder (MetaEncoder): Network g(Z_t, t).
        schedule (NoiseSchedule): Schedule of alpha_t and sigma_t.
        prediction (str): What the encoder predicts, ``'velocity'`` or
            ``'target'``.

    Raises:
        ValueError: If ``prediction`` has another value.

    Examples:
        >>> field = VelocityField(ConvEncoder(8), RectifiedFlow())
        >>> source = torch.randn(2, 8, 5, 5)
        >>> velocity, estimate = field(source, source, 1.0)
        >>> torch.equal(estimate, source)  # the flow starts as the identity
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
                f'prediction must be one of {", ".join(PREDICTIONS)}, got '
                f'{prediction!r}.'
            )
        self.encoder, self.schedule = encoder, schedule
        self.prediction = prediction

    def coefficients(self, t: float) -> Tuple[Coefficients, Coefficients]:
        """Return the coefficients of velocity and estimate.

        Args:
            t (float): Time in (0, 1].
        """
        _, _, d_alpha, d_sigma = self.schedule(t)
        # In a flow that starts as the identity, the encoder predicts the
        # difference to the estimate X_S, whose velocity is (alpha' + sigma')
        # X_S.
        identity = float(self.encoder.zero_init)
        if self.prediction == 'target':
            return (
                Coefficients(d_alpha + identity * d_sigma, d_sigma),
                Coefficients(identity, 1.0),
            )
        return (
            Coefficients(identity * (d_alpha + d_sigma), 1.0),
            Coefficients(identity or -d_alpha / d_sigma, 1 / d_sigma),
        )

    @property
    def starts_at_zero(self) -> bool:
        """Whether the flow starts with velocity 0, as the identity."""
        return self.encoder.zero_init and self.schedule.straight

    def forward(
        self, source: Tensor, state: Tensor, t: float
    ) -> Tuple[Tensor, Tensor]:
        """Return velocity and estimate, both of the shape of ``source``.

        Args:
            source (Tensor): ``X_S``, any shape that the encoder accepts.
            state (Tensor): ``Z_t``, shape of ``source``.
            t (float): Time in (0, 1].
        """
        output = self.encoder(state, t).to(source)
        velocity, estimate = self.coefficients(t)
        return (
            velocity.combine(source, output),
            estimate.combine(source, output),
        )
