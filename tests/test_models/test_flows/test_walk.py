"""Properties of the Euler walk (section 2 of the method)."""

import pytest
import torch
from torch import nn

from mmfmkt.models.flows import (
    VEODE,
    VPODE,
    BottleneckEncoder,
    ConvEncoder,
    MetaEncoder,
    RectifiedFlow,
    SubVPODE,
    VelocityField,
    Walk,
)
from mmfmkt.models.losses import MSELoss

STEPS = (1, 2, 3, 4, 8, 16, 64)
SCHEDULES = (RectifiedFlow(), VPODE(), SubVPODE(), VEODE())


class Oracle(MetaEncoder):
    """Gives the true velocity; counts the times that it is asked."""

    def __init__(self, schedule, source, target):
        super().__init__(1, [nn.Identity()], zero_init=False)
        self.schedule, self.source, self.target = schedule, source, target
        self.times = []

    def embed(self, times):
        return torch.tensor(times, dtype=torch.float64)

    def inside(self, entered, time):
        t = time.item()
        self.times.append(t)
        return self.schedule.velocity(self.source, self.target, t)


def field(schedule=None, encoder=ConvEncoder, **kwargs):
    prediction = kwargs.pop('prediction', 'velocity')
    built = encoder(4, **{'zero_init': False, **kwargs})
    return VelocityField(
        built, schedule or RectifiedFlow(), prediction
    ).double()


@pytest.fixture
def source():
    return torch.randn(2, 4, 5, 6, dtype=torch.float64)


def plain_walk(field, source, num_steps):
    """Algorithm 1 as it is written: estimates, and the last state."""
    state, estimates = source, []
    for i in range(num_steps, 0, -1):
        velocity, estimate = field(source, state, i / num_steps)
        estimates.append(estimate)
        state = state - velocity / num_steps
    return estimates, state


@pytest.mark.parametrize('zero_init', (True, False))
@pytest.mark.parametrize('prediction', ('velocity', 'target'))
@pytest.mark.parametrize('schedule', SCHEDULES, ids=lambda x: type(x).__name__)
@pytest.mark.parametrize('stride, kernel_size', [(0, 0), (1, 1), (2, 3)])
def test_a_walk_in_the_encoders_space_is_the_plain_walk(
    stride, kernel_size, schedule, prediction, zero_init, source
):
    narrow = {}
    if stride:
        narrow = dict(
            encoder=BottleneckEncoder,
            stride=stride,
            kernel_size=kernel_size,
            width=4,
        )
    flow = field(
        schedule, prediction=prediction, zero_init=zero_init, **narrow
    )
    for parameter in flow.parameters():
        nn.init.normal_(parameter, std=0.3)
    source.requires_grad_()
    found = []
    for estimates in (
        [step.estimate for step in Walk(flow, source, 3)],
        plain_walk(flow, source, 3)[0],
    ):
        mean = sum(estimates) / 3
        total = mean.square().sum() + estimates[1].sum()
        grads = torch.autograd.grad(total, [source, *flow.parameters()])
        found.append([*estimates, mean, *grads])
    for ours, plain in zip(*found):
        torch.testing.assert_close(ours, plain, rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(Walk(flow, source, 3).mean(), found[1][3])


@pytest.mark.parametrize('num_steps', STEPS)
def test_rectified_final_state_is_the_mean_of_the_estimates(source, num_steps):
    flow = field()
    estimates, final = plain_walk(flow, source, num_steps)
    mean = Walk(flow, source, num_steps).mean()
    assert not torch.allclose(mean, source)
    torch.testing.assert_close(mean, final, rtol=0, atol=1e-12)
    torch.testing.assert_close(
        mean, torch.stack(estimates).mean(0), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize('num_steps', STEPS)
def test_every_walk_reaches_the_target_under_the_oracle(source, num_steps):
    target = torch.randn_like(source)
    for schedule in SCHEDULES:
        oracle = Oracle(schedule, source, target)
        walk = Walk(VelocityField(oracle, schedule), source, num_steps)
        for step in walk:
            torch.testing.assert_close(
                step.estimate, target, rtol=0, atol=1e-9
            )
        torch.testing.assert_close(walk.mean(), target, rtol=0, atol=1e-9)


@pytest.mark.parametrize('num_steps', STEPS)
def test_training_loss_bounds_the_loss_of_the_ensemble(source, num_steps):
    metric, target = MSELoss(), torch.randn_like(source)
    walk = Walk(field(), source, num_steps)
    losses = [metric(step.estimate, target) for step in walk]
    assert metric(walk.mean(), target) <= sum(losses) / num_steps + 1e-12


@pytest.mark.parametrize('sections', (False, True))
def test_what_is_seen_is_averaged_from_one_to_one_over_n(source, sections):
    times = []

    def visit(steps):
        times.extend(step.t for step in steps.steps)
        return dict(estimates=steps.estimate.mean(0), one=torch.ones(()))

    walk = Walk(field(), source, 4)
    means, mean = walk.gather(visit, sections=sections)
    assert times == [1, 0.75, 0.5, 0.25] and means['one'] == 1
    torch.testing.assert_close(means['estimates'], mean)


def test_states_are_float32_or_better(source):
    flow = field().float()
    assert Walk(flow, source.bfloat16(), 2).mean().dtype == torch.float32
    assert Walk(flow.double(), source, 2).mean().dtype == torch.float64


def test_a_walk_goes_on_from_the_first_step_of_another(source):
    target = torch.randn_like(source)
    oracle = Oracle(RectifiedFlow(), source, target)
    flow = VelocityField(oracle, RectifiedFlow())
    first = next(iter(Walk(flow, source, 4)))
    oracle.times.clear()
    torch.testing.assert_close(
        Walk(flow, source, 2, first.inner).mean(), target
    )
    assert oracle.times == [0.5]


@pytest.mark.parametrize('num_steps', (0, -1, 2.5, None))
def test_walk_refuses_a_step_count_below_one(source, num_steps):
    with pytest.raises(ValueError, match='1 step or more'):
        Walk(field(), source, num_steps)
