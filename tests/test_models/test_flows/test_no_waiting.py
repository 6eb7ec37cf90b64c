"""No step of a flow waits for a GPU: nothing of it depends on values."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mmfmkt.models.flows import VARIANTS

# What copies a value to the host, or whose shape depends on values.
WAITING = {
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
CASES = [
    (variant, space, metric)
    for variant in VARIANTS
    for space, metrics in METRICS.items()
    for metric in metrics
    if (variant, space) != ('parallel', 'logits')
]


class NoWaiting(TorchDispatchMode):
    """Refuses operators that wait for values."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = str(func)
        by_mask = name.startswith('aten.index') and any(
            isinstance(x, torch.Tensor) and x.dtype == torch.bool
            for x in (args[1] if isinstance(args[1], (list, tuple)) else ())
        )
        assert name not in WAITING and not by_mask, name
        return func(*args, **(kwargs or {}))


def test_what_waits_is_noticed():
    x = torch.arange(3.0)
    for wait in (
        lambda: x.sum().item(),
        lambda: x[x > 1],
        lambda: x.nonzero(),
        lambda: bool((x > 1).all()),
    ):
        with pytest.raises(AssertionError), NoWaiting():
            wait()


@pytest.mark.parametrize('variant, space, metric', CASES)
def test_forward_and_backward_of_a_flow_wait_for_nothing(
    variant, space, metric
):
    logits = space == 'logits'
    flow = VARIANTS[variant](
        4,
        3 if logits else 4,
        encoder=dict(type='ConvEncoder'),
        schedule=dict(type='VPODE'),
        metric=dict(type=metric),
        space=space,
        labelled=logits,
    )
    source = torch.randn(3, 4, 6, 5, requires_grad=True)
    target = torch.randn(3, 3) if logits else torch.randn(3, 4, 6, 5)
    labels = torch.tensor([0, 2, 1]) if logits else None
    # The schedule is evaluated on the host, once for each time.
    if variant != 'direct':
        flow.walk(source, 2)
    with NoWaiting():
        losses, output = flow(
            source, target if flow.needs_teacher else None, 2, labels
        )
        total = output.square().mean() + sum(
            x for name, x in losses.items() if 'loss' in name
        )
        total.backward()
    assert source.grad.any()
