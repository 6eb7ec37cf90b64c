"""Velocity field: a meta-encoder under a noise schedule.

The velocity v and the estimate X_hat of the target satisfy ``v = alpha'_t X_S
+ sigma'_t X_hat`` (section 2 of the method), where alpha'_t and sigma'_t are
the derivatives of the noise schedule. The encoder predicts one of the two.
"""

from typing import NamedTuple, Tuple

from torch import Tensor, nn

from ..tensor_ops import linear_combination
from .encoders import MetaEncoder
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
    predicts the difference between velocity (or target) and that of a flow
    that stays at the source.

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
        point, identity_init = self.schedule(t), self.encoder.zero_init
        source = point.d_alpha + (point.d_sigma if identity_init else 0.0)
        if self.prediction == 'target':
            return (
                Coefficients(source, point.d_sigma),
                Coefficients(float(identity_init), 1.0),
            )
        inverse = 1 / point.d_sigma
        if identity_init:
            return Coefficients(source, 1.0), Coefficients(1.0, inverse)
        return (
            Coefficients(0.0, 1.0),
            Coefficients(-point.d_alpha / point.d_sigma, inverse),
        )

    def forward(
        self, source: Tensor, state: Tensor, t: float
    ) -> Tuple[Tensor, Tensor]:
        """Return velocity and estimate, both of the shape of ``source``.

        Args:
            source (Tensor): ``X_S``, float32 or better, any shape that the
                encoder accepts.
            state (Tensor): ``Z_t``, shape of ``source``.
            t (float): Time in (0, 1].
        """
        output = self.encoder(state, t).to(source)
        velocity, estimate = self.coefficients(t)
        return (
            velocity.combine(source, output),
            estimate.combine(source, output),
        )
