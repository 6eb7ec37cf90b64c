"""Properties of the Euler walk (section 2 of the method)."""

import pytest
import torch

from mmfmkt.models.flows import ConvEncoder, RectifiedFlow, euler_walk
from mmfmkt.models.losses import MSELoss

STEPS = (1, 2, 3, 4, 8, 16, 64)


@pytest.fixture
def source():
    return torch.randn(2, 4, 5, 6, dtype=torch.float64)


@pytest.mark.parametrize('num_steps', STEPS)
def test_rectified_final_state_is_the_mean_of_the_estimates(
        source, num_steps):
    encoder = ConvEncoder(4, zero_init=False).double()
    walk = euler_walk(encoder, source, RectifiedFlow(), num_steps)
    assert len(walk.estimates) == num_steps
    mean = torch.stack(walk.estimates).mean(0)
    assert not torch.allclose(mean, source)
    torch.testing.assert_close(walk.final, mean, rtol=0, atol=1e-12)


@pytest.mark.parametrize('num_steps', STEPS)
def test_rectified_walk_reaches_the_target_under_the_oracle(
        source, num_steps):
    target, schedule = torch.randn_like(source), RectifiedFlow()
    walk = euler_walk(lambda _, t: schedule.velocity(source, target, t),
                      source, schedule, num_steps)
    for estimate in walk.estimates:
        torch.testing.assert_close(estimate, target, rtol=0, atol=1e-9)
    torch.testing.assert_close(walk.final, target, rtol=0, atol=1e-9)


@pytest.mark.parametrize('num_steps', STEPS)
def test_training_loss_bounds_the_loss_of_the_ensemble(source, num_steps):
    encoder = ConvEncoder(4, zero_init=False).double()
    metric, target = MSELoss(), torch.randn_like(source)
    walk = euler_walk(encoder, source, RectifiedFlow(), num_steps)
    running = torch.stack([metric(x, target) for x in walk.estimates]).mean()
    ensemble = metric(torch.stack(walk.estimates).mean(0), target)
    assert ensemble <= running + 1e-12


def test_times_run_from_one_to_one_over_n(source):
    times = []

    def velocity(state, t):
        times.append(t)
        return torch.zeros_like(state)

    euler_walk(velocity, source, RectifiedFlow(), 4)
    assert times == [1, 0.75, 0.5, 0.25]


@pytest.mark.parametrize('num_steps', (0, -1, 2.5, None))
def test_walk_refuses_a_step_count_below_one(source, num_steps):
    with pytest.raises(ValueError, match='1 step or more'):
        euler_walk(lambda z, t: z, source, RectifiedFlow(), num_steps)
