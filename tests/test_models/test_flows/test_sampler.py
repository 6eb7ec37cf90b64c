"""Properties of the Euler sampler (section 2 of the method)."""

import weakref

import pytest
import torch
from torch import nn

from mmfmkt.models.flows import (
    VEODE,
    VPODE,
    BottleneckEncoder,
    ConvEncoder,
    EulerSampler,
    MetaEncoder,
    RectifiedFlow,
    SubVPODE,
    VelocityField,
)
from mmfmkt.models.losses import MSELoss

STEPS = (1, 2, 3, 4, 8, 16, 64)
SCHEDULES = (RectifiedFlow(), VPODE(), SubVPODE(), VEODE())


class Oracle(MetaEncoder):
    """True velocity; records the times of its calls."""

    def __init__(self, schedule, source, target):
        super().__init__(1, [nn.Identity()], zero_init=False)
        self.schedule, self.source, self.target = schedule, source, target
        self.times = []

    def embed_times(self, times):
        return torch.tensor(times, dtype=torch.float64)

    def body(self, projected, time):
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


def plain_euler(field, source, num_steps):
    """Reference implementation of Algorithm 1: estimates and last state."""
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
def test_euler_steps_between_the_projections_equal_euler_steps_of_the_feature(
    stride, kernel_size, schedule, prediction, zero_init, source
):
    bottleneck = {}
    if stride:
        bottleneck = dict(
            encoder=BottleneckEncoder,
            stride=stride,
            kernel_size=kernel_size,
            width=4,
        )
    flow = field(
        schedule, prediction=prediction, zero_init=zero_init, **bottleneck
    )
    for parameter in flow.parameters():
        nn.init.normal_(parameter, std=0.3)
    source.requires_grad_()
    found = []
    for estimates in (
        [step.estimate for step in EulerSampler(flow, source, 3)],
        plain_euler(flow, source, 3)[0],
    ):
        mean = sum(estimates) / 3
        total = mean.square().sum() + estimates[1].sum()
        grads = torch.autograd.grad(total, [source, *flow.parameters()])
        found.append([*estimates, mean, *grads])
    for ours, plain in zip(*found):
        torch.testing.assert_close(ours, plain, rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(
        EulerSampler(flow, source, 3).mean(), found[1][3]
    )


@pytest.mark.parametrize('num_steps', STEPS)
def test_rectified_final_state_is_the_mean_of_the_estimates(source, num_steps):
    flow = field()
    estimates, final = plain_euler(flow, source, num_steps)
    mean = EulerSampler(flow, source, num_steps).mean()
    assert not torch.allclose(mean, source)
    torch.testing.assert_close(mean, final, rtol=0, atol=1e-12)
    torch.testing.assert_close(
        mean, torch.stack(estimates).mean(0), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize('num_steps', STEPS)
def test_the_oracle_velocity_reaches_the_target_in_any_number_of_steps(
    source, num_steps
):
    target = torch.randn_like(source)
    for schedule in SCHEDULES:
        oracle = Oracle(schedule, source, target)
        sampler = EulerSampler(
            VelocityField(oracle, schedule), source, num_steps
        )
        for step in sampler:
            torch.testing.assert_close(
                step.estimate, target, rtol=0, atol=1e-9
            )
        torch.testing.assert_close(sampler.mean(), target, rtol=0, atol=1e-9)


@pytest.mark.parametrize('num_steps', STEPS)
def test_training_loss_bounds_the_loss_of_the_ensemble(source, num_steps):
    metric, target = MSELoss(), torch.randn_like(source)
    sampler = EulerSampler(field(), source, num_steps)
    losses = [metric(step.estimate, target) for step in sampler]
    assert metric(sampler.mean(), target) <= sum(losses) / num_steps + 1e-12


@pytest.mark.parametrize('segments', (False, True))
def test_values_are_averaged_over_the_steps_from_one_to_one_over_n(
    source, segments
):
    times = []

    def step_values(steps):
        times.extend(step.t for step in steps.steps)
        return dict(estimates=steps.estimate.mean(0), one=torch.ones(()))

    sampler = EulerSampler(field(), source, 4)
    means, mean = sampler.accumulate(step_values, checkpoint_segments=segments)
    assert times == [1, 0.75, 0.5, 0.25] and means['one'] == 1
    torch.testing.assert_close(means['estimates'], mean)


def test_states_are_at_least_float32(source):
    flow = field().float()
    assert (
        EulerSampler(flow, source.bfloat16(), 2).mean().dtype == torch.float32
    )
    assert EulerSampler(flow.double(), source, 2).mean().dtype == torch.float64


@pytest.mark.parametrize('schedule', SCHEDULES, ids=lambda x: type(x).__name__)
def test_sums_of_hidden_features_do_not_exceed_k_times_the_largest(
    schedule, source
):
    # In float16 they would overflow.
    flow, sums = field(schedule, BottleneckEncoder), []
    sampler = EulerSampler(flow, source, 16)
    largest = max(step.hidden.abs().max() for step in sampler)
    flow.encoder.layers[2].register_forward_pre_hook(
        lambda _module, args: sums.append(args[0].abs().max())
    )
    sampler.mean()
    assert sums[0] <= 16 * largest


@pytest.mark.parametrize('schedule', (RectifiedFlow(), VPODE()))
@pytest.mark.parametrize('encoder', (ConvEncoder, BottleneckEncoder))
def test_sampling_without_gradients_frees_each_step(encoder, schedule):
    # On another device than a CPU, training keeps all steps.
    flow = VelocityField(encoder(4), schedule).to('meta')
    outputs, alive = [], []

    def record(_module, _args, output):
        outputs.append(weakref.ref(output))
        alive.append(sum(ref() is not None for ref in outputs))

    flow.encoder.body_layers.register_forward_hook(record)
    with torch.no_grad():
        sampler = EulerSampler(flow, torch.empty(2, 4, 5, 6, device='meta'), 8)
        sampler.mean()
    assert len(alive) == 8 and max(alive) <= 2


@pytest.mark.parametrize('num_steps', (0, -1, 2.5, None))
def test_step_counts_below_one_are_refused(source, num_steps):
    with pytest.raises(ValueError, match='num_steps must be a positive'):
        EulerSampler(field(), source, num_steps)
