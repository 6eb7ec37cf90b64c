"""Distillation losses against independent implementations and limits."""

from copy import deepcopy

import numpy as np
import pytest
import references
import torch
import torch.distributed as dist
import torch.nn.functional as F
from helpers import run_ranks

from mmfmkt.models.losses import (
    CosineLoss,
    CrossKDLoss,
    CWDLoss,
    DISTLoss,
    DKDLoss,
    KDLoss,
    MSELoss,
    PKDLoss,
    WeightedSumLoss,
)
from mmfmkt.models.losses.functional import standardize

MAPS, LOGITS = (3, 4, 5, 6), (5, 7)
LABELS = torch.tensor([0, 6, 2, 2, 3])
CASES = {
    'KD': (KDLoss(), references.kd, LOGITS),
    'KD, T = 1': (KDLoss(1.0), lambda p, q: references.kd(p, q, 1.0), LOGITS),
    'KD, standardized': (
        KDLoss(standardize=True),
        lambda p, q: references.kd(*map(references.standard_scores, (p, q))),
        LOGITS,
    ),
    'DKD, standardized': (
        DKDLoss(standardize=True),
        lambda p, q, y: references.dkd(
            *map(references.standard_scores, (p, q)), y
        ),
        LOGITS,
    ),
    'DKD': (DKDLoss(), references.dkd, LOGITS),
    'DKD, ImageNet': (
        DKDLoss(0.5, 0.5, 1.0),
        lambda p, q, y: references.dkd(p, q, y, 0.5, 0.5, 1.0),
        LOGITS,
    ),
    'DIST': (DISTLoss(), references.dist, LOGITS),
    'DIST, T = 1': (
        DISTLoss(1.0, 3.0, 1.0),
        lambda p, q: references.dist(p, q, 1.0, 3.0, 1.0),
        LOGITS,
    ),
    'PKD': (PKDLoss(), references.pkd, MAPS),
    'CWD': (CWDLoss(), references.cwd, MAPS),
    'CWD, T = 4': (CWDLoss(4.0), lambda p, q: references.cwd(p, q, 4.0), MAPS),
    'MSE': (MSELoss(), references.mse, MAPS),
    'cosine': (CosineLoss(), references.cosine, MAPS),
    'cosine of vectors': (CosineLoss(), references.cosine, LOGITS),
    'weighted sum': (
        WeightedSumLoss([CosineLoss(), MSELoss()], [0.9, 0.1]),
        lambda p, q: 0.9 * references.cosine(p, q)
        + 0.1 * references.mse(p, q),
        MAPS,
    ),
    'weighted sum with labels': (
        WeightedSumLoss([DKDLoss(), KDLoss()]),
        lambda p, q, y: references.dkd(p, q, y) + references.kd(p, q),
        LOGITS,
    ),
}
METRICS = [pytest.param(*case[::2], id=name) for name, case in CASES.items()]
# Value and gradient are compared after the input has been rounded.
TOLERANCE = {
    torch.float64: 1e-10,
    torch.float32: 1e-4,
    torch.bfloat16: 1e-4,
    torch.float16: 1e-4,
}


def labels_for(metric):
    return (LABELS,) if metric.needs_labels else ()


def value_and_gradient(function, p, q, *labels):
    p = p.clone().requires_grad_()
    value = function(p, q, *labels)
    return value.detach(), torch.autograd.grad(value, p)[0]


def largest_difference(metric, reference, shape, dtype, rounds=20, seed=0):
    """Of value and gradient, over random inputs, relative to their size."""
    generator = torch.Generator().manual_seed(seed)
    worst = [0.0, 0.0]
    for i in range(rounds):
        p, q = (
            (
                torch.randn(shape, generator=generator).double() * 2 ** (i % 4)
            ).to(dtype)
            for _ in range(2)
        )
        labels = labels_for(metric)
        ours = value_and_gradient(
            metric, p.float() if dtype.itemsize == 2 else p, q, *labels
        )
        half = metric(p, q, *labels)
        torch.testing.assert_close(half, ours[0])
        theirs = value_and_gradient(reference, p.double(), q.double(), *labels)
        for k, (x, y) in enumerate(zip(ours, theirs)):
            difference = (x.double() - y).abs().max() / y.abs().max()
            worst[k] = max(worst[k], float(difference))
    return worst


@pytest.mark.parametrize('dtype', TOLERANCE, ids=str)
@pytest.mark.parametrize('name', CASES)
def test_losses_equal_their_formulas(name, dtype):
    value, gradient = largest_difference(*CASES[name], dtype)
    print(f'{name}, {dtype}: value {value:.1e}, gradient {gradient:.1e}')
    assert value < TOLERANCE[dtype] and gradient < TOLERANCE[dtype]


@pytest.mark.parametrize('temperature', (1.0, 4.0))
@pytest.mark.parametrize('name', ('KD', 'DIST'))
def test_losses_equal_torchdistill(name, temperature):
    theirs = pytest.importorskip('torchdistill.losses.mid_level')
    place = ('', 'output', '', 'output')
    if name == 'KD':
        ours = KDLoss(temperature)
        # Without labels theirs leaves out the factor T^2.
        factor = temperature**2
        other = theirs.KDLoss(*place, temperature, alpha=0.0)
    else:
        ours, factor = DISTLoss(2.0, 3.0, temperature), 1.0
        other = theirs.DISTLoss(*place, beta=2.0, gamma=3.0, tau=temperature)

    def reference(p, q):
        return factor * other({'': dict(output=p)}, {'': dict(output=q)})

    value, gradient = largest_difference(
        ours, reference, LOGITS, torch.float64
    )
    print(
        f'{name}, T = {temperature}, torchdistill: value {value:.1e}, '
        f'gradient {gradient:.1e}'
    )
    assert value < 1e-6 and gradient < 1e-5


def test_pkd_ignores_scale_and_shift_of_channels():
    p, q = torch.randn(2, 3, 4, 5, 6, dtype=torch.float64).unbind()
    scale = torch.rand(1, 4, 1, 1).double() + 0.5
    torch.testing.assert_close(PKDLoss()(p * scale - 3, q), PKDLoss()(p, q))
    assert PKDLoss()(q * scale + 2, q) < 1e-12


@pytest.mark.parametrize('offset', (0.0, 1e3))
def test_pkd_equals_half_the_mse_of_standardized_features(offset):
    p, q = torch.randn(2, 3, 5, 6, 4, dtype=torch.float64).unbind()
    p, q = p + offset, q.clone()
    # Neither varies, one does not, both do.
    p[:, :2], q[:, 1:3] = 3.7, -2.0
    p.requires_grad_()
    plain = F.mse_loss(*(standardize(x, (0, 2, 3), 1e-6) for x in (p, q))) / 2
    metric = PKDLoss()
    found = metric.loss_from_prepared(p, metric.prepare_target(q))
    torch.testing.assert_close(found, plain)
    torch.testing.assert_close(
        torch.autograd.grad(3 * found, p),
        torch.autograd.grad(3 * plain, p),
        rtol=1e-6,
        atol=1e-4,  # of 1e4, where 1 / eps is the factor of noise
    )


@pytest.mark.parametrize('metric, shape', METRICS)
def test_gradients_are_right_in_float64(metric, shape):
    p, q = torch.randn(2, *shape, dtype=torch.float64).unbind()
    assert torch.autograd.gradcheck(
        lambda p: metric(p, q, *labels_for(metric)), p.clone().requires_grad_()
    )


@pytest.mark.parametrize('metric, shape', METRICS)
@pytest.mark.parametrize('constant', (0.0, 3.7, -1e4))
def test_constant_inputs_give_finite_values_and_gradients(
    metric, shape, constant
):
    p = torch.full(shape, constant, requires_grad=True)
    for q in (torch.randn(shape), torch.full(shape, 1.0)):
        loss = metric(p, q, *labels_for(metric))
        (grad,) = torch.autograd.grad(loss, p)
        assert loss.isfinite() and grad.isfinite().all()


@pytest.mark.parametrize('metric, shape', METRICS)
def test_one_hot_predictions_give_finite_values_and_gradients(metric, shape):
    p, q = torch.zeros(2, *shape).unbind()
    p[:, 0], q[:, 1] = 3e4, 3e4
    loss, grad = value_and_gradient(metric, p, q, *labels_for(metric))
    assert loss.isfinite() and grad.isfinite().all()


@pytest.mark.parametrize('metric, shape', METRICS)
@pytest.mark.parametrize('dtype', (torch.float16, torch.bfloat16))
def test_half_inputs_are_compared_in_float32(metric, shape, dtype):
    p, q = (torch.randn(2, *shape) * 100).to(dtype).unbind()
    labels = labels_for(metric)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = metric(p, q, *labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, metric(p.float(), q.float(), *labels))


@pytest.mark.parametrize('metric, shape', METRICS)
def test_no_gradient_reaches_the_target(metric, shape):
    p, q = (torch.randn(shape, requires_grad=True) for _ in range(2))
    metric(p, q, *labels_for(metric)).backward()
    assert q.grad is None and p.grad is not None


@pytest.mark.parametrize('metric, shape', METRICS)
def test_equal_inputs_have_zero_loss(metric, shape):
    p = torch.randn(shape, dtype=torch.float64)
    assert metric(p, p, *labels_for(metric)).abs() < 1e-12


@pytest.mark.parametrize('metric, shape', METRICS)
def test_unsupported_shapes_are_refused(metric, shape):
    with pytest.raises(ValueError, match='of equal shape'):
        metric(torch.zeros(1, 2, 3, 3), torch.zeros(1, 3, 3, 3))
    if 'vectors' not in metric.spaces:
        with pytest.raises(ValueError, match='Loss needs'):
            metric(torch.zeros(2, 3, 4), torch.zeros(2, 3, 4))


def test_soft_labels_are_replaced_by_their_argmax():
    p, q = torch.randn(2, *LOGITS).unbind()
    soft = torch.full(LOGITS, 0.1).scatter_(1, LABELS[:, None], 0.4)
    torch.testing.assert_close(DKDLoss()(p, q, soft), DKDLoss()(p, q, LABELS))
    with pytest.raises(ValueError, match='DKDLoss needs labels'):
        DKDLoss()(p, q)


def test_dkd_warms_up_with_the_epoch():
    p, q = torch.randn(2, *LOGITS).unbind()
    metric = DKDLoss(temperature=3.0, warmup_epochs=4)
    full, weighted = metric(p, q, LABELS), metric.temperature**2
    for epoch, share in ((0, 0.25), (2, 0.75), (3, 1.0), (9, 1.0)):
        metric.set_epoch(epoch)
        assert metric.warmup_factor == share
        loss = metric(p, q, LABELS)
        torch.testing.assert_close(loss, share * full)
        bare = metric.compute_loss(p, metric.prepare_target(q, LABELS).encoded)
        assert torch.equal(loss, share * weighted * bare)


@pytest.mark.skipif(
    torch.__version__.startswith('2.1.'),
    reason='torch 2.1 compiles attributes of type float as constants',
)
def test_dkd_warms_up_without_compiling_again():
    compiled = []

    def backend(graph, inputs):
        compiled.append(graph)
        return graph.forward

    p, q = torch.randn(2, *LOGITS).unbind()
    metric = DKDLoss(warmup_epochs=4)
    metric.compile(backend=backend)
    for epoch in range(4):
        metric.set_epoch(epoch)
        metric(p, q, LABELS)
    assert len(compiled) == 1


def test_copies_of_a_compiled_loss_have_their_own_settings():
    p, q = torch.randn(2, *LOGITS).unbind()
    metric = KDLoss(temperature=1.0)
    metric.compile(backend='eager')
    copied = deepcopy(metric)
    copied.temperature = 4.0
    torch.testing.assert_close(copied(p, q), KDLoss(temperature=4.0)(p, q))


def cross_kd():
    def teacher_head(maps):
        positions = maps.flatten(2).mT
        corners = positions[..., :2].cumsum(-1).repeat(1, 1, 2)
        return positions, corners + corners.new_tensor([0, 0, 1, 2])

    metric = CrossKDLoss(features=PKDLoss())
    metric.teacher_head = teacher_head
    return metric


def test_cross_kd_of_one_value_per_channel_is_finite():
    p, q = torch.randn(2, 1, 4, 1, 1).unbind()
    loss, grad = value_and_gradient(cross_kd(), p, q)
    assert loss.isfinite() and grad.isfinite().all()


def test_the_gradient_of_the_cosine_loss_at_zero_vectors_is_bounded():
    q = torch.randn(MAPS)
    _, grad = value_and_gradient(CosineLoss(), torch.zeros(MAPS), q)
    assert grad.abs().max() * q[:, 0].numel() <= 1e6


@pytest.mark.parametrize(
    'metric, shape', [*METRICS, pytest.param(cross_kd(), MAPS, id='CrossKD')]
)
def test_the_loss_of_a_batch_of_steps_is_their_mean(metric, shape):
    q = torch.randn(shape, dtype=torch.float64)
    steps = torch.randn(3, *shape, dtype=torch.float64, requires_grad=True)
    target = metric.prepare_target(q, LABELS)
    together = metric.mean_loss_over_steps(steps, target)
    alone = sum(metric.loss_from_prepared(p, target) for p in steps) / 3
    assert metric.supports_step_dim
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        *(torch.autograd.grad(x, steps)[0] for x in (together, alone)),
        rtol=1e-12,
        atol=1e-12,
    )


def test_subclasses_get_one_step_at_a_time_by_default():
    class Own(PKDLoss):
        def compute_loss(self, pred, target):
            assert pred.dim() == 4
            return pred.sum()

    q, steps = torch.randn(MAPS), torch.randn(3, *MAPS)
    metric = Own()
    torch.testing.assert_close(
        metric.mean_loss_over_steps(steps, metric.prepare_target(q)),
        steps.sum() / 3,
    )


def test_subclasses_with_former_method_names_work_and_warn():
    with pytest.warns(FutureWarning, match='use encode_target'):

        class Former(KDLoss):
            def prepared(self, target):
                return 2 * target

            def compare(self, pred, goal):
                return (pred - goal).square().sum()

    p, q = torch.randn(2, *LOGITS).unbind()
    torch.testing.assert_close(Former()(p, q), (p - 2 * q).square().sum())


def test_the_former_spelling_of_standardize_works_and_warns():
    p, q = torch.randn(2, *LOGITS).unbind()
    for kind in (KDLoss, DKDLoss):
        with pytest.warns(FutureWarning, match="use 'standardize'"):
            former = kind(standardise=True)
        metric = kind(standardize=True)
        labels = labels_for(metric)
        assert torch.equal(former(p, q, *labels), metric(p, q, *labels))


def test_weighted_sums_need_one_kind_of_input_and_one_weight_per_loss():
    with pytest.raises(ValueError, match='share a kind of input'):
        WeightedSumLoss([PKDLoss(), KDLoss()])
    with pytest.raises(ValueError, match='one weight for each'):
        WeightedSumLoss([PKDLoss(), MSELoss()], [1.0])


def test_a_weighted_sum_over_some_classes_is_the_sum_over_these_classes():
    p, q = torch.randn(2, *LOGITS).unbind()
    classes = torch.tensor([5, 0, 3])
    loss = WeightedSumLoss([KDLoss(), DISTLoss()], [0.5, 2.0])
    loss.compare_classes(classes, 7)
    shared = p[:, classes], q[:, classes]
    expected = 0.5 * KDLoss()(*shared) + 2.0 * DISTLoss()(*shared)
    torch.testing.assert_close(loss(p, q), expected)


@pytest.mark.parametrize(
    'loss, shape', [(PKDLoss(sync=True), MAPS), (DISTLoss(sync=True), LOGITS)]
)
def test_synchronized_statistics_are_those_of_one_process(loss, shape):
    torch.manual_seed(0)
    pred, target = torch.randn(2, 4, *shape[1:]).unbind()

    def run(pred, target):
        pred = pred.clone().requires_grad_()
        value = loss(pred, target)
        value.backward()
        return value.detach(), pred.grad

    def on_rank():
        dist.init_process_group('gloo')
        rank = dist.get_rank()
        value, grad = run(
            *(x[2 * rank : 2 * rank + 2] for x in (pred, target))
        )
        return value.numpy(), grad.numpy()

    value, grad = run(pred, target)
    values, grads = zip(*run_ranks(on_rank))
    # Data parallelism averages losses and gradients over the processes.
    averaged = torch.from_numpy(np.concatenate(grads)) / 2
    torch.testing.assert_close(torch.tensor(np.mean(values)), value)
    torch.testing.assert_close(averaged, grad)
