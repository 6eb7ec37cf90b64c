"""Transfer of the levels of a tap."""

import pytest
import torch
from mmengine.logging import MessageHub
from torch import nn

from mmfmkt.models.distillers.builder import FeaturePair, complete_flow
from mmfmkt.models.distillers.feature_transfer import FeatureTransfer
from mmfmkt.models.flows import ConvEncoder
from mmfmkt.utils import ConfigError


def test_all_branches_of_a_student_have_the_same_target():
    flow = FeatureTransfer(
        'neck',
        {0: FeaturePair(4, 4)},
        'fmkt',
        complete_flow(dict(num_steps=2, dirac_ratio=0.5)),
    )
    for parameter in flow.parameters():
        nn.init.normal_(parameter, std=0.1)
    source, target = torch.randn(6, 4, 3, 3), torch.randn(2, 4, 3, 3)

    def losses(target):
        torch.manual_seed(0)
        return flow([source], {0: target}, weight=1.0)[0]

    assert losses(target) == losses(torch.cat([target] * 3))
    assert losses(target) != losses(torch.randn(6, 4, 3, 3))


def build(channels=(4, 4), **flow):
    features = {i: FeaturePair(c, c) for i, c in enumerate(channels)}
    settings = complete_flow({'num_steps': 2, **flow})
    return FeatureTransfer('neck', features, 'fmkt', settings)


def test_levels_may_share_one_encoder():
    separate, shared = build(), build(share_encoder=True)
    sizes = [
        sum(p.numel() for p in x.parameters()) for x in (separate, shared)
    ]
    assert sizes[0] == 2 * sizes[1]
    again = build(share_encoder=True)
    again.load_state_dict(shared.state_dict())
    maps = list(torch.randn(2, 2, 4, 6, 5).unbind())
    for x, y in zip(shared.sample(maps), again.sample(maps)):
        assert torch.equal(x, y)
    with pytest.raises(
        ConfigError, match='channels is 4, but .* has 5 .* share_encoder'
    ):
        build((4, 5), share_encoder=True)
    with pytest.raises(ConfigError, match='has one for each'):
        build(encoder=[dict(type='ConvEncoder')] * 2, share_encoder=True)


def test_levels_share_a_built_encoder_only_with_share_encoder():
    built = ConvEncoder(4)
    for encoder, share in (
        (built, False),
        ([built, built], False),
        (built, True),
    ):
        flow = build(encoder=encoder, share_encoder=share)
        a, b = (x.field.encoder for x in flow.values())
        assert (a is b) == share


def test_each_level_may_have_another_encoder():
    names = ['BottleneckEncoder', 'MLPEncoder']
    flow = build(encoder=[dict(type=name) for name in names])
    assert [type(x.field.encoder).__name__ for x in flow.values()] == names
    with pytest.raises(ConfigError, match='encoder has 1 values for 2'):
        build(encoder=[dict(type='ConvEncoder')])


def test_all_levels_have_the_same_pairs_and_number_of_steps(monkeypatch):
    flow = build((4, 4, 4), num_steps=(1, 2, 3, 4, 5), dirac_ratio=0.0)
    calls = []
    # In an iteration of a Runner, all draws are equal.
    info = MessageHub.get_current_instance().runtime_info
    monkeypatch.delitem(info, 'iter', raising=False)

    def record(transfer, args, kwargs):
        calls.append((args[2], kwargs['permutation'].tolist()))

    for transfer in flow.values():
        transfer.register_forward_pre_hook(record, with_kwargs=True)
    maps = [*torch.randn(3, 6, 4, 3, 3)]
    for _ in range(5):
        flow(maps, dict(enumerate(maps)), weight=1.0)
    iterations = [calls[i : i + 3] for i in range(0, 15, 3)]
    for first, *others in iterations:
        assert others == [first, first]
    assert len({steps for steps, _ in calls}) > 1
