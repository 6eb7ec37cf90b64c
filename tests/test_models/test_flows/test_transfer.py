"""Properties of the flow transfer and its variants (sections 2 and 3)."""

import pytest
import torch
import torch.nn.functional as F

from mmfmkt.models.flows import VARIANTS, RectifiedFlow
from mmfmkt.models.losses import PKDLoss

EQUAL = ((2, 4, 6, 5), (2, 4, 6, 5))
UNLIKE = ((2, 4, 6, 5), (2, 7, 3, 8))
# Only features of equal shape can be mixed.
CASES = [
    (variant, shapes)
    for variant in VARIANTS
    for shapes in (EQUAL, UNLIKE)
    if (variant, shapes) != ('parallel', UNLIKE)
]


def build(variant, channels, target_channels, zero_init=False, **kwargs):
    return VARIANTS[variant](
        channels,
        target_channels,
        encoder=dict(
            type=kwargs.pop('encoder', 'ConvEncoder'), zero_init=zero_init
        ),
        schedule=dict(type=kwargs.pop('schedule', 'RectifiedFlow')),
        metric=dict(type=kwargs.pop('metric', 'PKDLoss')),
        **kwargs,
    )


@pytest.mark.parametrize('prediction', ('velocity', 'target'))
@pytest.mark.parametrize('schedule', ('RectifiedFlow', 'VPODE'))
@pytest.mark.parametrize('variant', ('fmkt', 'theta', 'parallel'))
def test_gradients_are_right_in_float64(variant, schedule, prediction):
    torch.manual_seed(0)
    source = torch.randn(1, 2, 3, 2, dtype=torch.float64, requires_grad=True)
    target = torch.randn(1, 2, 3, 2, dtype=torch.float64)
    flow = build(
        variant,
        2,
        2,
        metric='CWDLoss',
        schedule=schedule,
        prediction=prediction,
    ).double()

    def loss_flow(source):
        return flow(source, target, 3)[0]['loss_flow']

    assert torch.autograd.gradcheck(loss_flow, source)


@pytest.mark.parametrize('variant, shapes', CASES)
def test_gradients_reach_student_and_flow_but_not_teacher(variant, shapes):
    source = torch.randn(shapes[0], requires_grad=True)
    target = torch.randn(shapes[1], requires_grad=True)
    flow = build(variant, shapes[0][1], shapes[1][1])
    losses, output = flow(source, target, 4)
    total = output.sum() + sum(
        x for name, x in losses.items() if 'loss' in name
    )
    total.backward()
    assert source.grad.any() and target.grad is None
    assert all(p.grad is not None and p.grad.any() for p in flow.parameters())


@pytest.mark.parametrize('variant, shapes', CASES)
def test_a_stopped_transfer_costs_nothing_and_touches_every_parameter(
    variant, shapes
):
    if variant == 'online':
        return  # There is no teacher to be without.
    source = torch.randn(shapes[0], requires_grad=True)
    flow = build(variant, shapes[0][1], shapes[1][1])
    losses, output = flow(source, None, 4)
    assert all(x == 0 for x in losses.values())
    (output.sum() + sum(losses.values())).backward()
    assert all(p.grad is not None for p in flow.parameters())
    expected = flow.transport(source, 4) if flow.deploys_flow else source
    torch.testing.assert_close(output, expected)


@pytest.mark.parametrize('prediction', ('velocity', 'target'))
@pytest.mark.parametrize('schedule', ('VPODE', 'SubVPODE', 'VEODE'))
def test_every_schedule_starts_as_the_identity(schedule, prediction):
    source, target = torch.randn(2, 2, 4, 6, 5).unbind()
    flow = build('fmkt', 4, 4, True, schedule=schedule, prediction=prediction)
    losses, output = flow(source, target, 8)
    torch.testing.assert_close(output, source, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(losses['loss_flow'], PKDLoss()(source, target))


def test_both_predictions_are_one_walk_under_rectified_flow():
    source = torch.randn(2, 4, 6, 5)
    torch.manual_seed(0)
    velocity = build('fmkt', 4, 4)
    target = build('fmkt', 4, 4, prediction='target')
    # The encoder of the target gives X_S - v where the other gives v.
    target.encoder.forward = lambda z, t: source - velocity.encoder(z, t)
    torch.testing.assert_close(
        target.transport(source, 5), velocity.transport(source, 5)
    )


def test_velocities_and_targets_cost_the_same_under_mse_and_not_under_pkd():
    source, target = torch.randn(2, 2, 4, 6, 5).unbind()
    for metric, same in (('MSELoss', True), ('PKDLoss', False)):
        losses = []
        for compare in ('targets', 'velocities'):
            torch.manual_seed(0)
            flow = build('fmkt', 4, 4, metric=metric, compare=compare)
            losses.append(flow(source, target, 4)[0]['loss_flow'])
        assert torch.allclose(*losses) == same


def test_the_direct_term_is_the_plain_metric_of_the_source():
    source, target = torch.randn(2, 2, 4, 6, 5).unbind()
    for variant in ('fmkt', 'theta'):
        flow = build(variant, 4, 4, loss_weight=2.0, direct_weight=3.0)
        losses, _ = flow(source, target, 4)
        torch.testing.assert_close(
            losses['loss_direct'], 6 * PKDLoss()(source, target)
        )
    losses, output = build('direct', 4, 4, loss_weight=2.0)(source, target, 4)
    assert list(losses) == ['loss_direct'] and output is source
    torch.testing.assert_close(
        losses['loss_direct'], 2 * PKDLoss()(source, target)
    )


def test_the_logged_ensemble_is_what_is_deployed_and_is_bounded():
    source, target = torch.randn(2, 2, 4, 6, 5).unbind()
    flow = build('fmkt', 4, 4, metric='MSELoss', loss_weight=2.0)
    losses, output = flow(source, target, 8)
    assert not losses['ensemble'].requires_grad
    torch.testing.assert_close(
        losses['ensemble'], 2 * flow.metric(output, target)
    )
    assert losses['ensemble'] < losses['loss_flow']


def test_parallel_training_sees_the_target_and_serial_training_does_not():
    source, target = torch.randn(2, 2, 4, 6, 5).unbind()
    for variant, leaks in (('fmkt', False), ('parallel', True)):
        flow, seen = build(variant, 4, 4), []
        flow.encoder.register_forward_hook(
            lambda module, args, output, seen=seen: seen.append(args[0])
        )
        flow(source, target, 4)
        mixed = [
            0.25 * i * source + (1 - 0.25 * i) * target for i in (4, 3, 2, 1)
        ]
        same = all(torch.allclose(*pair) for pair in zip(seen, mixed))
        assert same == leaks


LABELS = torch.tensor([1, 0, 2])


def test_logits_average_the_outputs_of_the_steps():
    source = torch.randn(3, 6, 4, 5)
    flow = build('fmkt', 6, 3, metric='KDLoss', space='logits', labelled=True)
    losses, output = flow(source, torch.randn(3, 3), 4, LABELS)
    steps = [flow.transform(x) for x in flow.walk(source, 4).estimates]
    torch.testing.assert_close(output, torch.stack(steps).mean(0))
    torch.testing.assert_close(output, flow.logits(source, 4))
    expected = sum(F.cross_entropy(x, LABELS) for x in steps) / 4
    torch.testing.assert_close(losses['loss_task'], expected)


def test_soft_labels_are_taken_as_they_are():
    source, target = torch.randn(3, 6, 4, 5), torch.randn(3, 3)
    flow = build('fmkt', 6, 3, metric='KDLoss', space='logits')
    hard, soft = (
        flow(source, target, 2, labels)[0]['loss_task']
        for labels in (LABELS, F.one_hot(LABELS, 3).float())
    )
    torch.testing.assert_close(hard, soft)


def test_online_steps_follow_their_mean_and_smoothed_labels():
    source = torch.randn(3, 6, 4, 5)
    flow = build(
        'online', 6, 3, metric='KDLoss', space='logits', loss_weight=2.0
    )
    losses, _ = flow(source, None, 4, LABELS)
    steps = [flow.transform(x) for x in flow.walk(source, 4).estimates]
    mean = torch.stack(steps).mean(0)
    torch.testing.assert_close(
        losses['loss_flow'], 2 * sum(flow.metric(x, mean) for x in steps) / 4
    )
    smoothed = (
        sum(F.cross_entropy(x, LABELS, label_smoothing=0.1) for x in steps) / 4
    )
    torch.testing.assert_close(losses['loss_task'], smoothed)


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
    flow = build('fmkt', 4, 4, loss_weight=3.0)
    estimates = flow.walk(source, 5).estimates
    expected = 3 / 5 * sum(flow.metric(x, target) for x in estimates)
    losses, _ = flow(source, target, 5)
    torch.testing.assert_close(losses['loss_flow'], expected)


@pytest.mark.parametrize('variant', VARIANTS)
def test_losses_are_float32_under_autocast(variant):
    source = torch.randn(2, 4, 6, 5).bfloat16()
    flow = build(variant, 4, 4)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses, output = flow(source, torch.randn(2, 4, 6, 5), 4)
    assert output.dtype == torch.bfloat16
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    assert all(loss.isfinite() for loss in losses.values())


def test_without_a_target_only_the_walk_is_left():
    flow = build('fmkt', 4, None)
    assert isinstance(flow.schedule, RectifiedFlow)
    assert all(name.startswith('encoder.') for name in flow.state_dict())
    assert flow.transport(torch.randn(1, 4, 3, 3), 2).shape == (1, 4, 3, 3)
