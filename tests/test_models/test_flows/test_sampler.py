"""Properties of the Euler walk (section 2 of the method)."""

import pytest
import torch

from mmfmkt.models.flows import ConvEncoder, RectifiedFlow, euler_walk
from mmfmkt.models.losses import MSELoss

STEPS = (1, 2, 3, 4, 8, 16, 64)
RECTIFIED = RectifiedFlow()


@pytest.fixture
def source():
    return torch.randn(2, 4, 5, 6, dtype=torch.float64)


def walk_of_an_encoder(source, num_steps):
    encoder = ConvEncoder(4, zero_init=False).double()

    def predict(state, t):
        velocity = encoder(state, t)
        return velocity, RECTIFIED.estimate(source, velocity, t)

    return euler_walk(predict, source, num_steps)


@pytest.mark.parametrize('num_steps', STEPS)
def test_rectified_final_state_is_the_mean_of_the_estimates(source, num_steps):
    walk = walk_of_an_encoder(source, num_steps)
    assert len(walk.estimates) == len(walk.velocities) == num_steps
    assert not torch.allclose(walk.mean, source)
    torch.testing.assert_close(walk.final, walk.mean, rtol=0, atol=1e-12)


@pytest.mark.parametrize('num_steps', STEPS)
def test_rectified_walk_reaches_the_target_under_the_oracle(source, num_steps):
    target = torch.randn_like(source)
    velocity = source - target
    walk = euler_walk(
        lambda _, t: (velocity, RECTIFIED.estimate(source, velocity, t)),
        source,
        num_steps,
    )
    for estimate in walk.estimates:
        torch.testing.assert_close(estimate, target, rtol=0, atol=1e-9)
    torch.testing.assert_close(walk.final, target, rtol=0, atol=1e-9)


@pytest.mark.parametrize('num_steps', STEPS)
def test_training_loss_bounds_the_loss_of_the_ensemble(source, num_steps):
    metric, target = MSELoss(), torch.randn_like(source)
    walk = walk_of_an_encoder(source, num_steps)
    running = torch.stack([metric(x, target) for x in walk.estimates]).mean()
    assert metric(walk.mean, target) <= running + 1e-12


def test_times_run_from_one_to_one_over_n(source):
    times = []

    def predict(state, t):
        times.append(t)
        return torch.zeros_like(state), state

    euler_walk(predict, source, 4)
    assert times == [1, 0.75, 0.5, 0.25]


@pytest.mark.parametrize('num_steps', (0, -1, 2.5, None))
def test_walk_refuses_a_step_count_below_one(source, num_steps):
    with pytest.raises(ValueError, match='1 step or more'):
        euler_walk(lambda z, t: (z, z), source, num_steps)
