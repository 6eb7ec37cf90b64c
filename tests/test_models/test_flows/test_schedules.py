"""Properties of the noise schedules (section 4 of the method)."""

import math
import re

import pytest
import torch
from helpers import ROOT

from mmfmkt.models.flows import (
    VEODE,
    VPODE,
    NoiseSchedule,
    RectifiedFlow,
    SchedulePoint,
    SubVPODE,
)
from mmfmkt.registry import MODELS, build_part

SCHEDULES = [RectifiedFlow(), VPODE(), SubVPODE(), VEODE()]
TIMES = torch.linspace(0.01, 0.999, 25, dtype=torch.float64)
each_schedule = pytest.mark.parametrize(
    'schedule', SCHEDULES, ids=lambda x: type(x).__name__
)


class TensorMath:
    """``math`` that also accepts tensors."""

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
def test_schedules_start_from_the_source_at_one(schedule):
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
def test_coefficients_at_zero_are_as_documented(schedule, alpha, sigma):
    at = schedule(0.0)
    assert at.alpha == pytest.approx(alpha)
    assert at.sigma == pytest.approx(sigma)


@each_schedule
def test_derivatives_are_finite_near_a_pole(schedule):
    for t in (1.0, 1 - 1e-4, 1 - 1e-3):
        at, edge = schedule(t), schedule(min(t, schedule.last_time))
        assert math.isfinite(at.d_sigma) and at.d_sigma == edge.d_sigma
        assert at.d_alpha == edge.d_alpha


@each_schedule
def test_euler_steps_under_the_oracle_converge(schedule):
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
def test_straight_schedules_are_lines_at_constant_speed(schedule):
    slopes = {schedule(t)[2:] for t in (0.1, 0.4, 0.9)}
    assert schedule.straight == (slopes == {(1.0, -1.0)})


class Shifted(NoiseSchedule):
    """Sigma above 0 at t = 1, as VE without its -1."""

    def point(self, t):
        sigma = 0.01 * 100 ** (1 - t)
        return SchedulePoint(1.0, sigma, 0.0, -math.log(100) * sigma)


class Constant(NoiseSchedule):
    """Target with coefficient 0."""

    def point(self, t):
        return SchedulePoint(1.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    'schedule, sentence',
    [
        (Shifted(), 'alpha 1 and sigma 0 at t = 1, got 1 and 0.01'),
        (Constant(), 'derivative of sigma below 0, got 0'),
    ],
)
def test_schedules_without_source_or_target_are_refused(schedule, sentence):
    with pytest.raises(ValueError, match=sentence):
        schedule.check()


@pytest.mark.parametrize(
    'build',
    [
        lambda: VEODE(sigma_min=0.5, sigma_max=0.1),
        lambda: VEODE(sigma_min=0.0),
    ],
)
def test_arguments_out_of_range_are_refused(build):
    with pytest.raises(ValueError, match='must be'):
        build()


def test_the_schedule_of_the_docs_is_valid(monkeypatch):
    text = (ROOT / 'docs' / 'method.md').read_text(encoding='utf-8')
    (shown,) = re.findall(
        r'```python\n(import math.*?class .*?)```', text, re.DOTALL
    )
    assert len(shown.strip().splitlines()) <= 18
    scope = {}
    exec(shown, scope)
    name = re.search(r'class (\w+)', shown).group(1)
    schedule = build_part(dict(type=name))
    del MODELS.module_dict[name]  # test_docs.py registers it, too
    assert isinstance(schedule, scope[name])
    schedule.check()
    test_euler_steps_under_the_oracle_converge(schedule)
    test_derivatives_equal_autograd(schedule, monkeypatch)
