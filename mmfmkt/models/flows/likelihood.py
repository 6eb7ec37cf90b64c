"""Log-density along a trained flow (instantaneous change of variables).

    log p_0(Z_0) = log p_1(Z_1) + integral over t in [0, 1] of div v(Z_t, t)

for dZ/dt = v(Z, t), solved from t = 1 to t = 0 (Chen et al., arXiv 1806.07366,
theorem 1). The divergence is estimated by Hutchinson's trace estimator
(Grathwohl et al., arXiv 1810.01367), the ODE is solved by torchdiffeq.
"""

from dataclasses import dataclass
from typing import Callable, Optional

import torch
from torch import Tensor

from .velocity import VelocityField


@dataclass
class LogDensityChange:
    """Change of the log-density of each sample along the flow.

    Attributes:
        change (Tensor): ``log p_0(Z_0) - log p_1(Z_1)`` in nats, ``(B, )``.
        final (Tensor): ``Z_0``, shape of the source.
    """

    change: Tensor
    final: Tensor


def log_density_change(
    velocity: Callable[[Tensor, float], Tensor],
    source: Tensor,
    num_probes: Optional[int] = 1,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    generator: Optional[torch.Generator] = None,
) -> LogDensityChange:
    """Integrate state and divergence together from t = 1 to t = 0.

    Args:
        velocity (Callable): v(Z_t, t), a function of state and time alone.
        source (Tensor): ``Z_1``, ``(B, ...)``.
        num_probes (int, optional): Number of random vectors (Rademacher
            probes) for the estimate of the trace. More probes reduce the
            variance; the estimate has no bias. None computes the exact trace,
            with a probe for each dimension.
        rtol (float): Relative tolerance of the solver (dopri5).
        atol (float): Absolute tolerance of the solver.
        generator (torch.Generator, optional): Generator of the probes. They
            are drawn once per call, because the solver needs a deterministic
            derivative.

    Raises:
        ImportError: If torchdiffeq is missing.
    """
    try:
        from torchdiffeq import odeint
    except ImportError as error:
        raise ImportError(
            'log_density_change needs torchdiffeq: pip install torchdiffeq'
        ) from error
    if num_probes is None:
        size = source[0].numel()
        # Scaled so that the mean over all probes is the exact trace.
        basis = torch.eye(size).to(source) * size**0.5
        probes = [x.view_as(source[:1]).expand_as(source) for x in basis]
    else:
        probes = [
            torch.randint(0, 2, source.shape, generator=generator).to(source)
            * 2
            - 1
            for _ in range(num_probes)
        ]

    def derivative(t: Tensor, state):
        with torch.enable_grad():
            z = state[0].detach().requires_grad_()
            v = velocity(z, float(t))
            trace = torch.zeros_like(state[1])
            for probe in probes:
                # materialize_grads returns zeros for a velocity that does
                # not depend on z.
                grad = torch.autograd.grad(
                    v,
                    z,
                    probe,
                    retain_graph=True,
                    materialize_grads=True,
                )[0]
                trace = trace + (grad * probe).flatten(1).sum(1)
        return v.detach(), trace.detach() / len(probes)

    start = (source.detach(), source.new_zeros(len(source)))
    times = torch.tensor([1.0, 0.0], dtype=source.dtype, device=source.device)
    final, change = odeint(derivative, start, times, rtol=rtol, atol=atol)
    # The solver integrates from 1 to 0, which changes the sign.
    return LogDensityChange(-change[-1], final[-1])


def autonomous_velocity(
    field: VelocityField, source: Tensor
) -> Callable[[Tensor, float], Tensor]:
    """Return a velocity that depends on state and time, not on the source.

    Args:
        field (VelocityField): Field of a trained flow.
        source (Tensor): ``X_S``.

    Raises:
        ValueError: If the velocity also depends on the source: the map from
            Z_1 to Z_0 is then not the flow of a single velocity field.
    """
    # It suffices to check one time: the coefficient of the source is 0 at all
    # times or never.
    if field.coefficients(0.5)[0].source:
        raise ValueError(
            'The likelihood needs a velocity that depends on state and time '
            'alone: use RectifiedFlow and an encoder with zero_init=True, or '
            "prediction='velocity' and an encoder with zero_init=False."
        )
    return lambda state, t: field(source, state, t)[0]
