"""Properties of the noise schedules (section 4 of the method)."""

import math
import re

import pytest
import torch
from conftest import ROOT

from mmfmkt.models.flows import (
    VEODE,
    VPODE,
    NoiseSchedule,
    RectifiedFlow,
    SchedulePoint,
    SubVPODE,
)
from mmfmkt.registry import build_part

SCHEDULES = [RectifiedFlow(), VPODE(), SubVPODE(), VEODE()]
TIMES = torch.linspace(0.01, 0.999, 25, dtype=torch.float64)
each_schedule = pytest.mark.parametrize(
    'schedule', SCHEDULES, ids=lambda x: type(x).__name__
)


class TensorMath:
    """``math``, of tensors where it gets them."""

    def __getattr__(self, name):
        if not hasattr(torch, name) or name in ('pi', 'inf'):
            return getattr(math, name)
        return lambda x: getattr(
            torch if isinstance(x, torch.Tensor) else math, name
        )(x)


@each_schedule
def test_derivatives_equal_autograd(schedule, monkeypatch):
    scope = type(schedule).point.__globals__
    monkeypatch.setitem(scope, 'math', TensorMath())
    for t in TIMES:
        t = t.clone().requires_grad_()
        at = schedule(t)
        for value, derivative in (
            (at.alpha, at.d_alpha),
            (at.sigma, at.d_sigma),
        ):
            expected = torch.zeros_like(t)
            if isinstance(value, torch.Tensor):
                (expected,) = torch.autograd.grad(value, t, retain_graph=True)
            torch.testing.assert_close(
                torch.as_tensor(derivative).to(t),
                expected,
                rtol=1e-10,
                atol=1e-12,
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
def test_euler_walk_under_the_oracle_converges(schedule):
    torch.manual_seed(0)
    source, target = torch.randn(2, 1000, dtype=torch.float64).unbind()
    at = schedule(0.0)
    exact = at.alpha * source + at.sigma * target
    torch.testing.assert_close(
        schedule.interpolate(source, target, 0.0), exact
    )
    errors = []
    for steps in (1, 8, 64, 4096):
        state = source
        for i in range(steps, 0, -1):
            velocity = schedule.velocity(source, target, i / steps)
            state = state - velocity / steps
        errors.append((state - exact).square().mean().sqrt().item())
    if isinstance(schedule, RectifiedFlow):
        assert max(errors) < 1e-12
    else:
        assert errors == sorted(errors, reverse=True)
        # What sigma does beyond last_time is left out: half of it, at a pole
        # of a square root.
        left_out = schedule(schedule.last_time).sigma
        assert errors[-1] < 1e-3 + left_out


@each_schedule
def test_straight_is_said_of_a_line_at_constant_speed_alone(schedule):
    slopes = {schedule(t)[2:] for t in (0.1, 0.4, 0.9)}
    assert schedule.straight == (slopes == {(1.0, -1.0)})


class Shifted(NoiseSchedule):
    """Ends at t = 1 with some of the target left, as VE without its -1."""

    def point(self, t):
        sigma = 0.01 * 100 ** (1 - t)
        return SchedulePoint(1.0, sigma, 0.0, -math.log(100) * sigma)


class Standing(NoiseSchedule):
    """Never gives the target any weight."""

    def point(self, t):
        return SchedulePoint(1.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    'schedule, sentence',
    [
        (Shifted(), 'alpha 1 and sigma 0 at t = 1, got 1 and 0.01'),
        (Standing(), 'derivative of sigma below 0, got 0'),
    ],
)
def test_schedules_that_lead_nowhere_are_refused(schedule, sentence):
    with pytest.raises(ValueError, match=sentence):
        schedule.check()


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
    with pytest.raises(ValueError, match='must be'):
        build()


def test_the_schedule_shown_in_the_docs_can_be_used(monkeypatch):
    text = (ROOT / 'docs' / 'method.md').read_text(encoding='utf-8')
    (shown,) = re.findall(
        r'```python\n(import math.*?class .*?)```', text, re.DOTALL
    )
    assert len(shown.strip().splitlines()) <= 18
    scope = {}
    exec(shown, scope)
    name = re.search(r'class (\w+)', shown).group(1)
    schedule = build_part(dict(type=name))
    assert isinstance(schedule, scope[name])
    schedule.check()
    test_euler_walk_under_the_oracle_converges(schedule)
    test_derivatives_equal_autograd(schedule, monkeypatch)
