"""Random inputs give finite numbers or a one-line error."""

import pytest
import torch
from flow_parts import build, total_of
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from mmfmkt.models.flows import (
    VARIANTS,
    TeacherFlowTransfer,
    decouple_pairs,
)
from mmfmkt.models.losses import (
    CWDLoss,
    DISTLoss,
    DKDLoss,
    KDLoss,
    MSELoss,
    PKDLoss,
)

ENCODERS = (
    'BottleneckEncoder',
    'ConvEncoder',
    'ConvNeXtEncoder',
    'DepthwiseConvEncoder',
    'MLPEncoder',
    'TransformerEncoder',
)
SCHEDULES = ('RectifiedFlow', 'VPODE', 'SubVPODE', 'VEODE')
MAP_METRICS = (CWDLoss, MSELoss, PKDLoss)
LOGIT_METRICS = (DISTLoss, DKDLoss, KDLoss, MSELoss)
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
FUZZ = settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


def strided(x, layout):
    """Return the same values in another memory layout."""
    if layout == 'channels_last' and x.dim() == 4:
        return x.contiguous(memory_format=torch.channels_last)
    if layout == 'sliced':
        return torch.stack([x, x + 1], -1)[..., 0]
    if layout == 'transposed' and x.dim() == 4:
        return x.transpose(2, 3).contiguous().transpose(2, 3)
    return x


layouts = st.sampled_from(['plain', 'channels_last', 'sliced', 'transposed'])
scales = st.sampled_from([0.0, 1e-6, 1.0, 1e3])


@pytest.mark.slow
@FUZZ
@given(
    metric=st.sampled_from(MAP_METRICS),
    shape=st.tuples(*[st.integers(0, n) for n in (3, 5, 4, 4)]),
    dtype=st.sampled_from(DTYPES),
    layout=layouts,
    scale=scales,
    constant=st.booleans(),
)
def test_random_maps_give_finite_losses_or_one_line_errors(
    metric, shape, dtype, layout, scale, constant
):
    torch.manual_seed(0)
    target = torch.zeros(shape) if constant else torch.randn(shape)
    check(metric(), shape, (scale * target).to(dtype), layout)


@FUZZ
@given(
    metric=st.sampled_from(LOGIT_METRICS),
    shape=st.tuples(st.integers(0, 4), st.integers(0, 6)),
    dtype=st.sampled_from(DTYPES),
    layout=layouts,
    scale=scales,
)
def test_random_logits_give_finite_losses_or_one_line_errors(
    metric, shape, dtype, layout, scale
):
    torch.manual_seed(0)
    check(metric(), shape, (scale * torch.randn(shape)).to(dtype), layout)


def check(metric, shape, target, layout):
    """Check that loss and gradient are finite and equal in any layout."""
    pred = torch.randn(shape).to(target.dtype).requires_grad_()
    labels = torch.zeros(shape[0], dtype=torch.long)
    labels = dict(labels=labels) if metric.needs_labels else {}
    one_class = isinstance(metric, DKDLoss) and shape[1] == 1
    if not pred.numel() or one_class:
        with pytest.raises(ValueError, match='empty target|two classes'):
            metric(pred, target, **labels)
        return
    loss = metric(strided(pred, layout), strided(target, layout), **labels)
    plain = metric(pred, target, **labels)
    (grad,) = torch.autograd.grad(loss, pred)
    assert loss.isfinite() and grad.isfinite().all()
    assert loss.dtype == torch.promote_types(target.dtype, torch.float32)
    torch.testing.assert_close(loss, plain, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@FUZZ
@given(
    variant=st.sampled_from(list(VARIANTS)),
    encoder=st.sampled_from(ENCODERS),
    schedule=st.sampled_from(SCHEDULES),
    metric=st.sampled_from([x.__name__ for x in MAP_METRICS]),
    shape=st.tuples(*[st.integers(1, n) for n in (3, 9, 4, 4)]),
    layout=layouts,
    num_steps=st.integers(1, 6),
    deployed=st.integers(1, 6),
    dirac_ratio=st.floats(0, 1),
    zero_init=st.booleans(),
)
def test_random_flows_give_finite_numbers_or_one_line_errors(
    variant,
    encoder,
    schedule,
    metric,
    shape,
    layout,
    num_steps,
    deployed,
    dirac_ratio,
    zero_init,
):
    torch.manual_seed(0)
    size, channels, height, width = shape
    assume(size * height * width > 1)  # for batch norm
    flow = build(
        variant,
        channels,
        channels,
        zero_init=zero_init,
        encoder=encoder,
        schedule=schedule,
        metric=metric,
    )
    source = torch.randn(shape).requires_grad_()
    target = None if variant == 'online' else torch.randn(shape)
    permutation = None
    if isinstance(flow, TeacherFlowTransfer):
        permutation = decouple_pairs(size, dirac_ratio)
    found = [
        flow(strided(source, x), target, num_steps, permutation=permutation)
        for x in ('plain', layout)
    ]
    (losses, output), (others, other) = found
    assert output.shape == source.shape
    total = total_of(losses, output)
    (grad,) = torch.autograd.grad(total, source)
    assert total.isfinite() and grad.isfinite().all()
    torch.testing.assert_close(
        total, total_of(others, other), rtol=1e-3, atol=1e-4
    )
    if flow.deploys_flow:
        taken = flow.sample(strided(source, layout), deployed)
        assert taken.shape == source.shape and taken.isfinite().all()


@FUZZ
@given(size=st.integers(0, 64), ratio=st.floats(0, 1))
def test_the_first_pairs_are_kept_and_the_others_permuted(size, ratio):
    permutation = decouple_pairs(size, ratio).tolist()
    kept = int(ratio * size)
    assert permutation[:kept] == list(range(kept))
    assert sorted(permutation) == list(range(size))


def test_permutations_of_pairs_are_random():
    permutations = {tuple(decouple_pairs(8, 0.5).tolist()) for _ in range(50)}
    assert len(permutations) > 5
