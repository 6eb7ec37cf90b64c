"""Properties of the noise schedules (section 4 of the method)."""

import math
import re

import pytest
import torch
from conftest import ROOT

from mmfmkt.models.flows import (
    VEODE,
    VPODE,
    FlowTransfer,
    NoiseSchedule,
    RectifiedFlow,
    SchedulePoint,
    SubVPODE,
    euler_walk,
)
from mmfmkt.utils import ConfigError

SCHEDULES = [RectifiedFlow(), VPODE(), SubVPODE(), VEODE()]
TIMES = torch.linspace(0.01, 0.999, 25, dtype=torch.float64)
each_schedule = pytest.mark.parametrize(
    'schedule', SCHEDULES, ids=lambda x: type(x).__name__
)


def oracle(schedule, source, target):
    """A walk's predictions where the velocity is the true one."""

    def predict(state, t):
        velocity = schedule.velocity(source, target, t)
        return velocity, schedule.estimate(source, velocity, t)

    return predict


@each_schedule
def test_derivatives_equal_autograd(schedule):
    for t in TIMES:
        t = t.clone().requires_grad_()
        at = schedule(t)
        for value, derivative in (
            (at.alpha, at.d_alpha),
            (at.sigma, at.d_sigma),
        ):
            expected = torch.zeros_like(t)
            if value.requires_grad:
                (expected,) = torch.autograd.grad(value, t, retain_graph=True)
            torch.testing.assert_close(
                derivative, expected, rtol=1e-10, atol=1e-12
            )


@each_schedule
def test_the_source_stands_at_one(schedule):
    assert schedule(1.0).alpha == 1 and schedule(1.0).sigma == 0
    schedule.check()


@pytest.mark.parametrize(
    'schedule, alpha, sigma',
    [
        (RectifiedFlow(), 0, 1),
        (VPODE(), math.exp(-19.9 / 4 - 0.05), math.sqrt(1 - math.exp(-10.05))),
        (SubVPODE(), math.exp(-19.9 / 4 - 0.05), 1 - math.exp(-10.05)),
        (VEODE(), 1, math.sqrt(1 - 1e-4)),
    ],
)
def test_the_target_stands_at_zero_as_documented(schedule, alpha, sigma):
    at = schedule(0.0)
    assert at.alpha == pytest.approx(alpha)
    assert at.sigma == pytest.approx(sigma)


@each_schedule
def test_derivatives_are_finite_also_where_there_is_a_pole(schedule):
    for t in (1.0, 1 - 1e-4, 1 - 1e-3):
        at, edge = schedule(t), schedule(min(t, schedule.last_time))
        assert math.isfinite(at.d_sigma) and at.d_sigma == edge.d_sigma
        assert at.d_alpha == edge.d_alpha


@each_schedule
def test_oracle_velocity_gives_the_target_at_every_time(schedule):
    source, target = torch.randn(2, 3, 5, 5, dtype=torch.float64).unbind()
    for t in (*TIMES, 1.0):
        velocity = schedule.velocity(source, target, t)
        estimate = schedule.estimate(source, velocity, t)
        torch.testing.assert_close(estimate, target, rtol=0, atol=1e-9)


@each_schedule
def test_euler_walk_under_the_oracle_converges(schedule):
    torch.manual_seed(0)
    source, target = torch.randn(2, 1000, dtype=torch.float64).unbind()
    at = schedule(0.0)
    exact = at.alpha * source + at.sigma * target
    errors = []
    for steps in (1, 8, 64, 4096):
        walk = euler_walk(oracle(schedule, source, target), source, steps)
        errors.append((walk.final - exact).square().mean().sqrt().item())
        torch.testing.assert_close(walk.mean, target, rtol=0, atol=1e-9)
    if isinstance(schedule, RectifiedFlow):
        assert max(errors) < 1e-12
    else:
        assert errors == sorted(errors, reverse=True)
        # What sigma does beyond last_time is left out: half of it, at a pole
        # of a square root.
        left_out = schedule(schedule.last_time).sigma
        assert errors[-1] < 1e-3 + left_out


class Shifted(NoiseSchedule):
    """Ends at t = 1 with some of the target left, as VE without its -1."""

    def point(self, t):
        sigma = 0.01 * 100 ** (1 - t)
        return SchedulePoint(
            torch.ones_like(t),
            sigma,
            torch.zeros_like(t),
            -math.log(100) * sigma,
        )


class Standing(NoiseSchedule):
    """Never gives the target any weight."""

    def point(self, t):
        zero = torch.zeros_like(t)
        return SchedulePoint(zero + 1, zero, zero, zero)


@pytest.mark.parametrize(
    'schedule, sentence',
    [
        (Shifted(), 'never reaches the source: at t = 1 .* sigma 0.01'),
        (Standing(), 'leads to no target'),
    ],
)
def test_schedules_that_lead_nowhere_are_refused_at_build(schedule, sentence):
    with pytest.raises(ConfigError, match=sentence):
        FlowTransfer(
            4,
            4,
            encoder=dict(type='ConvEncoder'),
            schedule=schedule,
            metric=dict(type='PKDLoss'),
        )


@pytest.mark.parametrize(
    'build',
    [
        lambda: VEODE(sigma_min=0.5, sigma_max=0.1),
        lambda: VEODE(sigma_min=0.0),
        lambda: VPODE(a=0),
        lambda: SubVPODE(b=-1),
    ],
)
def test_impossible_arguments_are_refused_in_one_sentence(build):
    with pytest.raises(ConfigError, match='needs|takes'):
        build()


def test_the_schedule_shown_in_the_docs_can_be_used():
    text = (ROOT / 'docs' / 'method.md').read_text(encoding='utf-8')
    (shown,) = re.findall(
        r'```python\n(import torch.*?class .*?)```', text, re.DOTALL
    )
    assert len(shown.strip().splitlines()) <= 18
    scope = {}
    exec(shown, scope)
    name = re.search(r'class (\w+)', shown).group(1)
    transfer = FlowTransfer(
        4,
        4,
        encoder=dict(type='ConvEncoder'),
        schedule=dict(type=name),
        metric=dict(type='PKDLoss'),
    )
    schedule = transfer.schedule
    assert isinstance(schedule, scope[name])
    test_derivatives_equal_autograd(schedule)
    test_euler_walk_under_the_oracle_converges(schedule)
