"""Properties of the flow transfer and its variants (sections 2 and 3)."""

import pytest
import torch

from mmfmkt.models.flows import VARIANTS, RectifiedFlow
from mmfmkt.models.losses import PKDLoss

SHAPES = [((2, 4, 6, 5), (2, 4, 6, 5)), ((2, 4, 6, 5), (2, 7, 3, 8))]


def build(variant, channels, target_channels, zero_init=False, **kwargs):
    return VARIANTS[variant](
        channels,
        target_channels,
        encoder=dict(
            type=kwargs.pop('encoder', 'ConvEncoder'), zero_init=zero_init),
        schedule=dict(type='RectifiedFlow'),
        metric=dict(type=kwargs.pop('metric', 'PKDLoss')),
        loss_weight=kwargs.pop('loss_weight', 1.))


@pytest.mark.parametrize('variant', VARIANTS)
@pytest.mark.parametrize('encoder', ('ConvEncoder', 'ConvNeXtEncoder'))
@pytest.mark.parametrize('metric', ('PKDLoss', 'MSELoss'))
@pytest.mark.parametrize('shapes', SHAPES)
def test_gradients_are_right_in_float64(variant, encoder, metric, shapes):
    torch.manual_seed(0)
    source = torch.randn(1, 2, 3, 2, dtype=torch.float64, requires_grad=True)
    channels = 2 if shapes[0][1] == shapes[1][1] else 3
    target = torch.randn(1, channels, 3, 2, dtype=torch.float64)
    flow = build(
        variant, 2, channels, encoder=encoder, metric=metric).double()

    def loss_flow(source):
        return flow(source, target, 3)[0]['loss_flow']

    assert torch.autograd.gradcheck(loss_flow, source)


@pytest.mark.parametrize('variant', VARIANTS)
@pytest.mark.parametrize('shapes', SHAPES)
def test_gradients_reach_student_and_flow_but_not_teacher(variant, shapes):
    source = torch.randn(shapes[0], requires_grad=True)
    target = torch.randn(shapes[1], requires_grad=True)
    flow = build(variant, shapes[0][1], shapes[1][1])
    losses, output = flow(source, target, 4)
    (sum(losses.values()) + output.sum()).backward()
    assert source.grad.any() and target.grad is None
    assert all(p.grad is not None and p.grad.any()
               for p in flow.parameters())


def test_theta_passes_the_feature_on_and_stops_its_own_target():
    source = torch.randn(2, 4, 6, 5, requires_grad=True)
    flow = build('theta', 4, 4)
    losses, output = flow(source, torch.randn_like(source), 4)
    assert output is source
    losses['loss_student'].backward()
    assert source.grad.any()
    assert all(p.grad is None for p in flow.parameters())


def test_fmkt_hands_on_what_it_transports_at_inference():
    source = torch.randn(2, 4, 6, 5)
    flow = build('fmkt', 4, 4)
    _, output = flow(source, torch.randn_like(source), 4)
    torch.testing.assert_close(output, flow.transport(source, 4))
    for steps in (1, 2, 8, 33):
        other = flow.transport(source, steps)
        assert other.shape == source.shape
        assert not torch.allclose(other, output)


def test_zero_init_starts_as_the_plain_metric():
    source, target = torch.randn(2, 2, 4, 6, 5).unbind()
    losses, output = build('fmkt', 4, 4, zero_init=True)(source, target, 8)
    torch.testing.assert_close(losses['loss_flow'], PKDLoss()(source, target))
    torch.testing.assert_close(output, source)


def test_the_loss_is_weighted_and_averaged_over_steps():
    source, target = torch.randn(2, 2, 4, 6, 5).unbind()
    flow = build('fmkt', 4, 4, loss_weight=3.)
    estimates = flow.walk(source, 5).estimates
    expected = 3 / 5 * sum(flow.metric(x, target) for x in estimates)
    losses, _ = flow(source, target, 5)
    torch.testing.assert_close(losses['loss_flow'], expected)


@pytest.mark.parametrize('variant', VARIANTS)
def test_losses_are_float32_under_autocast(variant):
    source = torch.randn(2, 4, 6, 5).bfloat16()
    flow = build(variant, 4, 7)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses, output = flow(source, torch.randn(2, 7, 6, 5), 4)
    assert output.dtype == torch.bfloat16
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    assert all(loss.isfinite() for loss in losses.values())


def test_without_a_target_only_the_walk_is_left():
    flow = build('fmkt', 4, None)
    assert isinstance(flow.schedule, RectifiedFlow)
    assert all(name.startswith('encoder.') for name in flow.state_dict())
    assert flow.transport(torch.randn(1, 4, 3, 3), 2).shape == (1, 4, 3, 3)
