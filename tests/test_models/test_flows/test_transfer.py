"""Properties of the flow transfer and its variants (sections 2 and 3)."""

import weakref
from copy import deepcopy
from itertools import chain

import pytest
import torch
import torch.nn.functional as F
from flow_parts import LABELS, CountingHead, build, run, total_of
from references import kd

from mmfmkt.models import flows
from mmfmkt.models.flows import VARIANTS, EulerSampler, sampler
from mmfmkt.models.losses import DKDLoss, PKDLoss

ENCODERS = [
    x for x in flows.__all__ if x.endswith('Encoder') and x != 'MetaEncoder'
]
EQUAL = ((2, 4, 6, 5), (2, 4, 6, 5))
UNLIKE = ((2, 4, 6, 5), (2, 7, 3, 8))
# Only features of equal shape can be mixed.
CASES = [
    (variant, shapes)
    for variant in VARIANTS
    for shapes in (EQUAL, UNLIKE)
    if (variant, shapes) != ('parallel', UNLIKE)
]


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
    total_of(losses, output).backward()
    assert source.grad.any() and target.grad is None
    assert all(p.grad is not None and p.grad.any() for p in flow.parameters())


@pytest.mark.parametrize('variant, shapes', CASES)
def test_a_stopped_transfer_has_zero_loss_with_a_gradient_for_each_parameter(
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
    expected = flow.sample(source, 4) if flow.deploys_flow else source
    torch.testing.assert_close(output, expected)


@pytest.mark.parametrize('prediction', ('velocity', 'target'))
@pytest.mark.parametrize(
    'schedule', ('RectifiedFlow', 'VPODE', 'SubVPODE', 'VEODE')
)
def test_every_schedule_starts_as_the_identity(schedule, prediction):
    source, target = torch.randn(2, 2, 4, 6, 5).unbind()
    flow = build(
        'fmkt', zero_init=True, schedule=schedule, prediction=prediction
    )
    losses, output = flow(source, target, 8)
    torch.testing.assert_close(output, source, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(losses['loss_flow'], PKDLoss()(source, target))


def test_both_predictions_sample_alike_under_rectified_flow():
    source = torch.randn(2, 4, 6, 5)
    torch.manual_seed(0)
    velocity = build('fmkt', 4, 4)
    target = build('fmkt', 4, 4, prediction='target')
    # The encoder of the target gives X_S - v where the other gives v.
    encoders = target.field.encoder, velocity.field.encoder
    encoders[0].embed_times = encoders[1].embed_times
    encoders[0].body = lambda z, t: source - encoders[1].body(z, t)
    torch.testing.assert_close(
        target.sample(source, 5), velocity.sample(source, 5)
    )


def test_velocities_and_targets_have_equal_loss_under_mse_but_not_under_pkd():
    source, target = torch.randn(2, 2, 4, 6, 5).unbind()
    for metric, same in (('MSELoss', True), ('PKDLoss', False)):
        losses = []
        for compare in ('targets', 'velocities'):
            torch.manual_seed(0)
            flow = build('fmkt', 4, 4, metric=metric, compare=compare)
            losses.append(flow(source, target, 4)[0]['loss_flow'])
        assert torch.allclose(*losses) == same


def test_a_permuted_pair_has_the_label_of_its_teacher_sample():
    torch.manual_seed(0)
    flow = build('fmkt', 6, metric='DKDLoss', zero_init=True)
    head, source = CountingHead(), torch.randn(3, 6, 2, 2)
    permutation, target = torch.tensor([2, 0, 1]), torch.randn(3, 3)
    losses, _ = run(
        flow, source, target, 2, LABELS, head, permutation=permutation
    )
    # The flow starts as the identity.
    expected = DKDLoss()(
        head.logits(source), target[permutation], LABELS[permutation]
    )
    torch.testing.assert_close(losses['loss_flow'], expected)


def test_the_direct_term_is_the_distillation_loss_of_the_source():
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


@pytest.mark.parametrize('weight', (0.0, 0.5, 2.0))
def test_ensemble_weight_scales_the_ensemble_term_of_theta_alone(weight):
    source, target = torch.randn(2, 2, 4, 6, 5).unbind()
    settings = dict(loss_weight=2.0, direct_weight=1.0)
    losses = []
    for ensemble_weight in (1.0, weight):
        torch.manual_seed(0)
        flow = build('theta', ensemble_weight=ensemble_weight, **settings)
        losses.append(flow(source, target, 4)[0])
    published, own = losses
    if not weight:
        assert 'loss_student' not in own
        published.pop('loss_student')
    else:
        published['loss_student'] = weight * published['loss_student']
    torch.testing.assert_close(own, published)


@pytest.mark.parametrize('variant', ('fmkt', 'parallel', 'theta'))
def test_metric_of_mean_is_the_loss_of_the_deployed_feature(variant):
    source, target = torch.randn(2, 2, 4, 6, 5).unbind()
    flow = build(variant, metric='MSELoss', loss_weight=2.0)
    losses, output = flow(source, target, 8, diagnose=True)
    assert not losses['metric_of_mean'].requires_grad
    assert losses['metric_of_mean'] < losses['loss_flow']
    if variant == 'theta':
        output = flow.sample(source, 8)
    torch.testing.assert_close(
        losses['metric_of_mean'], 2 * flow.metric(output, target)
    )
    assert 'metric_of_mean' not in flow(source, target, 8)[0]


def test_parallel_training_sees_the_target_and_serial_training_does_not():
    source, target = torch.randn(2, 2, 4, 6, 5).unbind()
    for variant, leaks in (('fmkt', False), ('parallel', True)):
        flow, seen = build(variant, 4, 4), []
        body = flow.field.encoder.body
        flow.field.encoder.body = lambda z, t, body=body, seen=seen: (
            seen.append(z) or body(z, t)
        )
        flow(source, target, 4)
        mixed = [
            0.25 * i * source + (1 - 0.25 * i) * target for i in (4, 3, 2, 1)
        ]
        same = all(torch.allclose(*pair) for pair in zip(seen, mixed))
        assert same == leaks


def test_logits_average_the_outputs_of_the_steps():
    source, head = torch.randn(3, 6, 4, 5), CountingHead()
    flow = build('fmkt', 6, metric='KDLoss')
    losses, output = run(flow, source, torch.randn(3, 3), 4, LABELS, head)
    steps = [
        head.logits(step.estimate)
        for step in EulerSampler(flow.field, source, 4)
    ]
    torch.testing.assert_close(output, torch.stack(steps).mean(0))
    expected = sum(F.cross_entropy(x, LABELS) for x in steps) / 4
    torch.testing.assert_close(losses['loss_task'], expected)


def test_logits_of_each_step_count_are_computed_once():
    source, head = torch.randn(3, 6, 4, 5), CountingHead()
    flow = build('fmkt', 6, metric='KDLoss')
    found = flow.logits(source, (4, 1, 2, 4), head.logits)
    assert list(found) == [4, 1, 2] and head.calls == 4 + 1 + 2
    for count, logits in found.items():
        alone = flow.logits(source, (count,), head.logits)[count]
        assert torch.equal(logits, alone)


def test_theta_equals_the_published_sum_in_loss_and_gradient():
    """As the authors' code has it: four terms, all of weight 1."""
    torch.manual_seed(0)
    source = torch.randn(3, 6, 4, 5, dtype=torch.float64, requires_grad=True)
    target = torch.randn(3, 3, dtype=torch.float64)
    flow = build('theta', 6, classes=3, metric='KDLoss').double()
    head, num_steps = CountingHead().double(), 4
    losses, _ = run(flow, source, target, num_steps, LABELS, head)

    state, outputs, expected = source, [], 0.0
    for i in range(num_steps, 0, -1):
        velocity, _ = flow.field(source, state, i / num_steps)
        state = state - velocity / num_steps
        output = flow.transform(source - velocity)
        terms = kd(output, target) + F.cross_entropy(output, LABELS)
        outputs.append(output)
        expected = expected + terms / num_steps
    own = head.logits(source)
    mean = torch.stack(outputs).mean(0).detach()
    expected = expected + kd(own, mean) + F.cross_entropy(own, LABELS)
    found = total_of(losses, source.new_zeros(()))
    torch.testing.assert_close(found, expected)
    learnt = [source]
    for part in (flow.field, flow.transform, head):
        learnt += part.parameters()
    for pair in zip(
        torch.autograd.grad(found, learnt),
        torch.autograd.grad(expected, learnt),
    ):
        torch.testing.assert_close(*pair)


def test_the_branch_of_theta_is_trained_on_hard_and_soft_labels():
    source, target = torch.randn(3, 6, 4, 5), torch.randn(3, 3)
    flow, head = build('theta', 6, classes=3, metric='KDLoss'), CountingHead()
    hard, soft = (
        run(flow, source, target, 2, labels, head)[0]['loss_branch']
        for labels in (LABELS, F.one_hot(LABELS, 3).float())
    )
    torch.testing.assert_close(hard, soft)
    steps = [
        flow.transform(step.estimate)
        for step in EulerSampler(flow.field, source, 2)
    ]
    expected = sum(F.cross_entropy(x, LABELS) for x in steps) / 2
    torch.testing.assert_close(hard, expected)


def test_online_steps_follow_their_mean_and_the_heads_own_losses():
    source, head = torch.randn(3, 6, 4, 5), CountingHead(smoothing=0.1)
    flow = build('online', 6, metric='KDLoss', loss_weight=2.0)
    losses, output = run(flow, source, None, 4, LABELS, head)
    steps = [
        head.logits(step.estimate)
        for step in EulerSampler(flow.field, source, 4)
    ]
    mean = torch.stack(steps).mean(0)
    torch.testing.assert_close(output, mean)
    torch.testing.assert_close(
        losses['loss_flow'], 2 * sum(flow.metric(x, mean) for x in steps) / 4
    )
    smoothed = (
        sum(F.cross_entropy(x, LABELS, label_smoothing=0.1) for x in steps) / 4
    )
    torch.testing.assert_close(losses['loss_task'], smoothed)


def test_theta_returns_the_feature_and_detaches_the_ensemble():
    source = torch.randn(2, 4, 6, 5, requires_grad=True)
    flow = build('theta', 4, 4)
    losses, output = flow(source, torch.randn_like(source), 4)
    assert output is source
    losses['loss_student'].backward()
    assert source.grad.any()
    assert all(p.grad is None for p in flow.parameters())


def test_fmkt_returns_the_feature_that_it_samples_at_inference():
    source = torch.randn(2, 4, 6, 5)
    flow = build('fmkt', 4, 4)
    _, output = flow(source, torch.randn_like(source), 4)
    torch.testing.assert_close(output, flow.sample(source, 4))
    for steps in (1, 2, 8, 33):
        other = flow.sample(source, steps)
        assert other.shape == source.shape
        assert not torch.allclose(other, output)


def test_the_former_name_of_sample_works_and_warns():
    source, flow = torch.randn(2, 4, 6, 5), build('fmkt', 4, 4)
    with pytest.warns(FutureWarning, match='use sample'):
        found = flow.transport(source, 2)
    assert torch.equal(found, flow.sample(source, 2))


def test_the_loss_is_weighted_and_averaged_over_steps():
    source, target = torch.randn(2, 2, 4, 6, 5).unbind()
    flow = build('fmkt', 4, 4, loss_weight=3.0)
    expected = 0.6 * sum(
        flow.metric(step.estimate, target)
        for step in EulerSampler(flow.field, source, 5)
    )
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


# FSDP's MixedPrecision(param_dtype=...) casts no buffers.
@pytest.mark.parametrize('casts_buffers', [True, False])
@pytest.mark.parametrize('encoder', ENCODERS)
@pytest.mark.parametrize('variant', VARIANTS)
def test_models_in_half_precision_train_and_sample_as_in_float32(
    variant, encoder, casts_buffers
):
    channels = 4 if variant == 'parallel' else 7
    flow = build(variant, 4, channels, encoder=encoder)
    source, target = torch.randn(2, 4, 6, 5), torch.randn(2, channels, 6, 5)
    expected = flow(source, target, 2)[0]
    half, source = deepcopy(flow), source.bfloat16()
    for tensor in chain(half.parameters(), casts_buffers * [*half.buffers()]):
        tensor.data = tensor.bfloat16()
    losses, output = half(source, target.bfloat16(), 2)
    for name, loss in losses.items():
        torch.testing.assert_close(loss, expected[name], rtol=0.1, atol=0.02)
    total_of(losses, output).backward()
    assert output.dtype == torch.bfloat16
    if half.deploys_flow:
        assert half.sample(source, 2).dtype == torch.bfloat16


@pytest.mark.parametrize('encoder', ENCODERS)
def test_flows_with_quantized_linear_layers_are_sampled(encoder):
    flow, source = (
        build('fmkt', 4, 4, encoder=encoder),
        torch.randn(2, 4, 6, 5),
    )
    linear = {torch.nn.Linear}
    quantized = torch.ao.quantization.quantize_dynamic(flow.eval(), linear)
    assert quantized.sample(source, 2).dtype == torch.float32


def saved_by(function):
    """Return the result of a function and the bytes saved for backward."""
    kept = {}

    def pack(x):
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        found = function()
    return found, sum(kept.values())


@pytest.mark.parametrize('own_head', (False, True))
@pytest.mark.parametrize('variant', ('fmkt', 'theta', 'parallel', 'online'))
def test_checkpointing_saves_memory_and_keeps_losses_and_gradients(
    variant, own_head
):
    source = torch.randn(3, 6, 16, 16, requires_grad=True)
    settings, target = {}, torch.randn(3, 6, 16, 16)
    if own_head:
        if variant == 'parallel':
            return  # Shapes must be equal.
        settings, target = dict(metric='KDLoss'), torch.randn(3, 3)
        if variant == 'theta':
            settings['classes'] = 3
    found = []
    for with_cp in (False, True):
        torch.manual_seed(0)
        flow = build(variant, 6, 6, with_cp=with_cp, **settings)
        head = CountingHead() if own_head else None
        given = None if variant == 'online' else target
        (losses, output), kept = saved_by(
            lambda flow=flow, given=given, head=head: run(
                flow, source, given, 9, LABELS if head else None, head
            )
        )
        total = total_of(losses, output)
        grads = torch.autograd.grad(
            total, [source, *flow.parameters()], allow_unused=True
        )
        found.append((total, grads, kept, head and head.calls))
    (total, grads, kept, calls), (again, regrads, less, recalls) = found
    torch.testing.assert_close(again, total)
    for first, second in zip(grads, regrads):
        assert (first is None) == (second is None)
        if first is not None:
            torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-6)
    assert less < 0.6 * kept
    # A student's own head runs as often as without.
    assert recalls == calls


# torch 2.1, of the upstream stack, splits the graph of a transfer.
needs_one_graph = pytest.mark.skipif(
    torch.__version__.startswith('2.1.'), reason='torch 2.1 splits the graph'
)


@needs_one_graph
@pytest.mark.slow
@pytest.mark.parametrize('variant', ('fmkt', 'theta'))
def test_a_compiled_flow_is_one_graph_for_each_n_whatever_the_size(variant):
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    levels = [
        build(variant, 8, 8, encoder='BottleneckEncoder') for _ in range(2)
    ]
    plain = deepcopy(levels)
    for level in levels:
        level.compile(backend='eager')
    counters.clear()
    for number, n in enumerate((1, 2, 4), 1):
        for height, width in ((4, 5), (6, 5), (8, 9)):
            for level, alike in zip(levels, plain):
                source, target = torch.randn(2, 2, 8, height, width).unbind()
                again, same = level(source, target, n)
                losses, output = alike(source, target, n)
                torch.testing.assert_close(again, losses)
                torch.testing.assert_close(same, output)
        assert counters['stats']['unique_graphs'] == number
    assert not counters['graph_break']


@needs_one_graph
@pytest.mark.slow
def test_forward_hooks_do_not_recompile_a_flow_and_copies_are_uncompiled():
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    flow = build('fmkt', 8, 8, encoder='BottleneckEncoder')
    flow.compile(backend='eager')
    source, target = torch.randn(2, 2, 8, 6, 5).unbind()
    counters.clear()
    losses, _ = flow(source, target, 2)
    seen = []
    hook = flow.register_forward_hook(lambda *args: seen.append(args))
    flow(source, target, 2)
    hook.remove()
    assert len(seen) == counters['stats']['unique_graphs'] == 1
    copied = deepcopy(flow)
    for parameter in copied.parameters():
        torch.nn.init.zeros_(parameter)
    again, _ = copied(source, target, 2)
    assert not torch.equal(again['loss_flow'], losses['loss_flow'])


@pytest.mark.slow
def test_a_flow_compiled_by_inductor_has_the_same_losses_and_gradients():
    source, target = torch.randn(2, 2, 8, 6, 5).unbind()
    source.requires_grad_()
    plain = build('fmkt', 8, 8, encoder='BottleneckEncoder')
    compiled = deepcopy(plain)
    compiled.compile()
    found = []
    for flow in (plain, compiled):
        losses, output = flow(source, target, 2)
        total_of(losses, output).backward()
        grads = [p.grad.clone() for p in flow.parameters()]
        found.append([*losses.values(), output.detach(), *grads])
    torch.testing.assert_close(*found)


def all_steps_as_one_batch(monkeypatch):
    """Process steps as on a GPU."""
    monkeypatch.setattr(
        sampler, 'steps_per_batch', lambda state, indices: len(indices)
    )


# Combinations whose loss or T runs on a batch of steps.
BATCHED = [
    ('fmkt', 'PKDLoss', EQUAL),
    ('fmkt', 'PKDLoss', UNLIKE),
    ('fmkt', 'CWDLoss', UNLIKE),
    ('theta', 'MSELoss', UNLIKE),
    ('online', 'MSELoss', EQUAL),
    ('parallel', 'PKDLoss', EQUAL),
]


@pytest.mark.parametrize('with_cp', (False, True))
@pytest.mark.parametrize('schedule', ('RectifiedFlow', 'VPODE'))
@pytest.mark.parametrize('encoder', ('BottleneckEncoder', 'ConvEncoder'))
@pytest.mark.parametrize('variant, metric, shapes', BATCHED)
def test_steps_as_one_batch_equal_steps_one_by_one(
    monkeypatch, variant, metric, shapes, encoder, schedule, with_cp
):
    torch.manual_seed(0)
    source = torch.randn(shapes[0], dtype=torch.float64, requires_grad=True)
    target = torch.randn(shapes[1], dtype=torch.float64)
    flow = build(
        variant,
        shapes[0][1],
        shapes[1][1],
        metric=metric,
        encoder=encoder,
        schedule=schedule,
        with_cp=with_cp,
    ).double()
    found = []
    for together in (False, True):
        if together:
            all_steps_as_one_batch(monkeypatch)
        flow.zero_grad()
        source.grad = None
        losses, output = flow(source, target, 5)
        total_of(losses, output).backward()
        grads = [p.grad.clone() for p in flow.parameters()]
        found.append([*losses.values(), output.detach(), source.grad, *grads])
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('with_cp', (False, True))
def test_checkpointed_steps_store_no_activations_of_the_encoder(
    monkeypatch, with_cp
):
    all_steps_as_one_batch(monkeypatch)
    flow = build('fmkt', 8, 8, encoder='BottleneckEncoder', with_cp=with_cp)
    inner = []
    flow.field.encoder.body_layers.register_forward_hook(
        lambda module, args, output: inner.append(weakref.ref(output))
    )
    source, target = torch.randn(2, 2, 8, 6, 5).unbind()
    losses, output = flow(source, target, 9)
    alive = [ref() is not None for ref in inner]
    assert any(alive) != with_cp
    total_of(losses, output).backward()


@pytest.mark.parametrize('encoder', ('BottleneckEncoder', 'ConvEncoder'))
def test_batched_steps_need_no_more_activation_memory(monkeypatch, encoder):
    source, target = torch.randn(2, 2, 32, 16, 16).unbind()
    source.requires_grad_()
    flow = build('fmkt', 32, 32, metric='PKDLoss', encoder=encoder)

    def kept():
        return saved_by(lambda: flow(source, target, 4))[1]

    one_by_one = kept()
    all_steps_as_one_batch(monkeypatch)
    assert kept() <= 1.01 * one_by_one


def test_transfers_without_a_distillation_loss_can_only_sample():
    whole = build('fmkt', 4, 7)
    field = whole.field
    bare = VARIANTS['fmkt'](field)
    assert whole.deployed_modules == [field]
    assert all(name.startswith('field.') for name in bare.state_dict())
    source = torch.randn(1, 4, 3, 3)
    torch.testing.assert_close(bare.sample(source, 2), whole.sample(source, 2))


def test_losses_that_ignore_scale_compare_velocities_of_curved_flows():
    source, target = torch.randn(2, *EQUAL[0]).unbind()
    source.requires_grad_()
    settings = dict(compare='velocities', zero_init=True, schedule='VPODE')
    flow = build('fmkt', 4, 4, metric='PKDLoss', **settings)
    flow(source, target, 4)[0]['loss_flow'].backward()
    assert source.grad.isfinite().all() and source.grad.any()


@pytest.mark.parametrize(
    'variant, settings, sentence',
    [
        ('fmkt', dict(compare='boxes'), 'compare must be one of'),
        ('fmkt', dict(prediction='noise'), 'prediction must be one of'),
        (
            'fmkt',
            dict(compare='velocities', zero_init=True),
            'PKDLoss, or a term of it, ignores scale',
        ),
        ('theta', dict(ensemble_weight=0.0), 'direct_weight are both 0'),
    ],
)
def test_contradictory_settings_are_refused(variant, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        build(variant, **settings)
