"""Properties of the noise schedules (section 4 of the method)."""

import pytest
import torch

from mmfmkt.models.flows import RectifiedFlow

SCHEDULES = [RectifiedFlow()]
TIMES = torch.linspace(0.01, 0.99, 25, dtype=torch.float64)


@pytest.mark.parametrize('schedule', SCHEDULES)
def test_derivatives_equal_autograd(schedule):
    for t in TIMES:
        t = t.clone().requires_grad_()
        at = schedule(t)
        for value, derivative in ((at.alpha, at.d_alpha), (at.sigma,
                                                           at.d_sigma)):
            expected, = torch.autograd.grad(value, t, retain_graph=True)
            torch.testing.assert_close(derivative, expected)


@pytest.mark.parametrize('schedule', SCHEDULES)
def test_source_stands_at_one_and_target_at_zero(schedule):
    assert schedule(1.).alpha == 1 and schedule(1.).sigma == 0
    assert schedule(0.).alpha == 0 and schedule(0.).sigma == 1


@pytest.mark.parametrize('schedule', SCHEDULES)
def test_oracle_velocity_gives_the_target_at_every_time(schedule):
    source, target = torch.randn(2, 3, 5, 5, dtype=torch.float64).unbind()
    for t in TIMES:
        velocity = schedule.velocity(source, target, t)
        estimate = schedule.estimate(source, velocity, t)
        torch.testing.assert_close(estimate, target, rtol=0, atol=1e-9)
