"""Change of log-density, compared with closed forms."""

from functools import partial

import pytest
import torch

from mmfmkt.models.flows import (
    VPODE,
    ConvEncoder,
    RectifiedFlow,
    VelocityField,
)

pytest.importorskip('torchdiffeq')

from mmfmkt.models.flows.likelihood import (  # noqa: E402
    autonomous_velocity,
    log_density_change,
)


def build(zero_init=True, schedule=None, prediction='velocity'):
    encoder = ConvEncoder(3, zero_init=zero_init)
    return VelocityField(encoder, schedule or RectifiedFlow(), prediction)


@pytest.mark.parametrize('seed', range(3))
def test_a_linear_flow_equals_its_closed_form(seed):
    # For v = (1 + t) A Z, the change is 3/2 tr A, and Z_0 is exp(-3/2 A) Z_1.
    size, num_samples = 16, 1024
    generator = torch.Generator().manual_seed(seed)
    draw = partial(torch.randn, generator=generator, dtype=torch.float64)
    matrix = draw(size, size) / size
    matrix += torch.eye(size, dtype=torch.float64) / 2
    source = draw(num_samples, size)
    found = log_density_change(
        lambda z, t: (1 + t) * z @ matrix.T,
        source,
        num_probes=16,
        rtol=1e-8,
        atol=1e-8,
        generator=generator,
    )
    change = 1.5 * matrix.trace()
    standard_error = found.change.std() / num_samples**0.5
    assert (found.change.mean() - change).abs() < 4 * standard_error
    assert standard_error < 0.0025 * change
    final = source @ (-1.5 * matrix.T).matrix_exp()
    torch.testing.assert_close(found.final, final, rtol=1e-6, atol=1e-6)


def test_a_diagonal_flow_is_exact():
    # Rademacher probes have no variance where nothing is off the diagonal.
    rates = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    source = torch.randn(4, 3, dtype=torch.float64)
    found = log_density_change(
        lambda z, t: z * rates, source, rtol=1e-9, atol=1e-9
    )
    torch.testing.assert_close(
        found.change, rates.sum().expand(4), rtol=1e-7, atol=1e-7
    )
    torch.testing.assert_close(
        found.final, source * (-rates).exp(), rtol=1e-6, atol=1e-6
    )


@pytest.mark.slow
def test_a_trained_flow_changes_by_the_determinant_of_its_jacobian():
    torch.manual_seed(0)
    flow = build(zero_init=False).double()
    source = torch.randn(1, 3, 3, 2, dtype=torch.float64)
    velocity = autonomous_velocity(flow, source)
    found = log_density_change(
        velocity, source, num_probes=None, rtol=1e-7, atol=1e-7
    )

    def transported(flat):
        # The exact map, by many small steps.
        z = flat.view_as(source)
        steps = 400
        for i in range(steps, 0, -1):
            middle = z - velocity(z, i / steps) / (2 * steps)
            z = z - velocity(middle, (i - 0.5) / steps) / steps
        return z.flatten()

    jacobian = torch.autograd.functional.jacobian(
        transported, source.flatten()
    )
    exact = -jacobian.slogdet().logabsdet
    assert abs(exact) > 0.1
    torch.testing.assert_close(found.change[0], exact, rtol=1e-3, atol=1e-4)
    roughly = log_density_change(velocity, source, num_probes=400)
    assert abs(roughly.change.item() - exact.item()) < 0.3


def test_a_new_flow_changes_no_density():
    flow = build()
    source = torch.randn(2, 3, 4, 4)
    found = log_density_change(autonomous_velocity(flow, source), source)
    assert not found.change.any()
    torch.testing.assert_close(found.final, source)


@pytest.mark.parametrize(
    'settings',
    [
        dict(prediction='target', zero_init=False),
        dict(schedule=VPODE()),
    ],
)
def test_velocities_that_depend_on_the_source_are_refused(settings):
    with pytest.raises(ValueError, match='state and time alone'):
        autonomous_velocity(build(**settings), torch.zeros(1, 3, 2, 2))
    autonomous_velocity(
        build(zero_init=False, schedule=VPODE()),
        torch.zeros(1, 3, 2, 2),
    )
