"""Flows run without GPU synchronization: nothing depends on values."""

import pytest
import torch
from flow_parts import LABELS, CountingHead, build, run, total_of
from torch.utils._python_dispatch import TorchDispatchMode

from mmfmkt.models import flows
from mmfmkt.models.flows import VARIANTS

# Operators that copy to the host or whose output shape depends on values.
SYNCHRONIZING = {
    'aten._local_scalar_dense.default',
    'aten.nonzero.default',
    'aten.masked_select.default',
    'aten.unique_dim.default',
    'aten.equal.default',
    'aten.is_nonzero.default',
}
METRICS = dict(
    maps=('PKDLoss', 'MSELoss', 'CWDLoss'),
    logits=('KDLoss', 'DKDLoss', 'DISTLoss', 'MSELoss'),
)
ENCODERS = [
    x for x in flows.__all__ if x.endswith('Encoder') and x != 'MetaEncoder'
]
CASES = [
    (variant, space, metric)
    for variant in VARIANTS
    for space, metrics in METRICS.items()
    for metric in metrics
    if (variant, space) != ('parallel', 'logits')
]


class NoSync(TorchDispatchMode):
    """Raises on operators that synchronize with the device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = str(func)
        by_mask = name.startswith('aten.index') and any(
            isinstance(x, torch.Tensor) and x.dtype == torch.bool
            for x in (args[1] if isinstance(args[1], (list, tuple)) else ())
        )
        device = (kwargs or {}).get('device')
        copies = name.startswith('aten._to_copy') and device not in (
            None,
            args[0].device,
        )
        assert name not in SYNCHRONIZING and not by_mask and not copies, name
        return func(*args, **(kwargs or {}))


def test_synchronizing_operators_are_detected():
    x = torch.arange(3.0)
    for synchronize in (
        lambda: x.sum().item(),
        lambda: x[x > 1],
        lambda: x.nonzero(),
        lambda: bool((x > 1).all()),
        lambda: x.to('meta'),
    ):
        with pytest.raises(AssertionError), NoSync():
            synchronize()


@pytest.mark.parametrize('variant, space, metric', CASES)
def test_forward_and_backward_of_a_flow_do_not_synchronize(
    variant, space, metric
):
    logits = space == 'logits'
    flow = build(
        variant,
        8,
        8,
        schedule='VPODE',
        metric=metric,
        classes=3 if logits and variant == 'theta' else None,
    )
    head = CountingHead(8) if logits else None
    source = torch.randn(3, 8, 6, 5, requires_grad=True)
    target = torch.randn(3, 3) if logits else torch.randn(3, 8, 6, 5)
    run_without_sync(flow, source, target, head)


@pytest.mark.parametrize('with_cp', (False, True))
@pytest.mark.parametrize('encoder', ENCODERS)
def test_encoders_do_not_synchronize(encoder, with_cp):
    flow = build('fmkt', 8, 8, encoder=encoder, with_cp=with_cp)
    source = torch.randn(3, 8, 6, 5, requires_grad=True)
    run_without_sync(flow, source, torch.randn(3, 8, 6, 5), None)


def run_without_sync(flow, source, target, head):
    with NoSync():
        losses, output = run(
            flow,
            source,
            target if flow.needs_teacher else None,
            2,
            None if head is None else LABELS,
            head,
            diagnose=True,
        )
        total_of(losses, output).backward()
    assert source.grad.any()
