"""Results of the first core of the flows, which the present one gives too.

`recorded.json` has what the core before the redesign gave in float64 for
combinations in which each pair of parts meets once: losses, outputs, and
gradients as sums with fixed weights. Parameters are set to waves that depend
on their number of elements alone, so that their names may change.
"""

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import ConfigDict

from mmfmkt.models.distillers.builder import FeaturePair, complete_flow
from mmfmkt.models.distillers.feature_transfer import FeatureTransfer
from mmfmkt.models.distillers.head_transfer import HeadTransfer

RECORDED = json.loads(
    Path(__file__).with_name('recorded.json').read_text(encoding='utf-8')
)
BATCH, CHANNELS, CLASSES = 4, 6, 4


def wave(n, k):
    steps = torch.arange(n, dtype=torch.float64)
    return torch.sin(steps * (0.7 + 0.1 * k) + k)


def tensor(*shape, k=0):
    n = torch.Size(shape).numel()
    return (wave(n, k) + 0.3 * wave(n, k + 2) ** 2).view(shape)


def settings(variant, schedule, encoder, metric, prediction, compare, zero):
    narrow = {}
    if encoder == 'TransformerEncoder':
        narrow = dict(num_heads=2, head_dim=4)
    flow = dict(
        encoder=dict(type=encoder, zero_init=zero == 'True', **narrow),
        schedule=dict(type=schedule),
        metric=dict(type=metric),
        prediction=prediction,
        compare=compare,
        num_steps=3,
        inference_steps=3,
        loss_weight=2.0,
    )
    if variant in ('fmkt', 'theta', 'parallel'):
        flow.update(direct_weight=0.5, dirac_ratio=0.5)
    return complete_flow(flow)


def set_to_waves(module):
    for p in module.parameters():
        p.data.copy_(0.3 * wave(p.numel(), p.numel() % 7).view_as(p))
    return module


def at_a_tap(flow: ConfigDict, variant: str, equal: bool):
    """Losses, output, what is deployed, and the source."""
    channels = CHANNELS if equal or variant == 'online' else 5
    features = {0: FeaturePair(CHANNELS, channels)}
    tap = set_to_waves(
        FeatureTransfer('neck', features, variant, flow).double()
    )
    source = tensor(BATCH, CHANNELS, 5, 4, k=1).requires_grad_()
    size = (5, 4) if equal else (4, 3)
    target = {0: tensor(BATCH, channels, *size, k=3)}
    torch.manual_seed(0)
    losses, (output,) = tap(
        (source,), None if variant == 'online' else target, 1.0, diagnose=True
    )
    deployed = []
    if tap['0'].deploys_flow:
        deployed = [tap.sample((source.detach(),))[0]]
    return losses, output, deployed, source


def at_the_head(flow: ConfigDict, variant: str, vectors: bool):
    """The same, of a classifier."""
    pair = FeaturePair(CHANNELS, CLASSES, vectors, 'logits')
    head_transfer = set_to_waves(
        HeadTransfer('head', pair, variant, flow).double()
    )
    shape = (BATCH, CHANNELS) if vectors else (BATCH, CHANNELS, 5, 4)
    source = tensor(*shape, k=1).requires_grad_()
    target, labels = tensor(BATCH, CLASSES, k=3), torch.tensor([1, 0, 3, 2])
    weight = tensor(CHANNELS, CLASSES, k=5)

    def logits(x):
        return (x if vectors else x.mean((2, 3))).tanh() @ weight

    def head(x):
        y = logits(x)
        loss = torch.nn.functional.cross_entropy(y, labels)
        return y, dict(loss_task=loss, task_acc=y.sum())

    torch.manual_seed(0)
    losses = head_transfer(
        source,
        None if variant == 'online' else target,
        labels,
        head,
        1.0,
        *head_transfer.draw(source),
        diagnose=True,
    )
    counts = (head_transfer.inference_steps, 2)
    found = head_transfer.flow.logits(source.detach(), counts, logits)
    return losses, 0 * source, list(found.values()), source


@pytest.mark.parametrize('name', RECORDED)
def test_results_equal_the_recorded_ones(name):
    space, variant, *others = name.rsplit(maxsplit=7)
    flow = settings(variant, *others)
    if space.startswith('head'):
        found = at_the_head(flow, variant, space == 'head of vectors')
    else:
        found = at_a_tap(flow, variant, space == 'equal')
    losses, output, deployed, source = found
    total = output.mul(tensor(*output.shape, k=4)).sum() + sum(
        x for key, x in losses.items() if 'loss' in key
    )
    total.backward()
    values = {key: x.item() for key, x in losses.items()}
    values.update(
        grad=source.grad.mul(tensor(*source.shape, k=6)).sum().item(),
        grad2=source.grad.norm().item(),
        output=output.square().sum().item(),
        **{
            f'K{i}': x.mul(tensor(*x.shape, k=2)).sum().item()
            for i, x in enumerate(deployed)
        },
    )
    expected = RECORDED[name]
    assert set(values) == set(expected)
    for key, value in values.items():
        assert value == pytest.approx(expected[key], rel=1e-6, abs=1e-9), key
