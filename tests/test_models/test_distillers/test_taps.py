"""Taps read what networks give, whatever the networks do with a batch."""

import pytest
import torch
from torch import nn

from mmfmkt.models.distillers.flow_config import complete_flow
from mmfmkt.models.distillers.tap_flow import TapFlow
from mmfmkt.models.distillers.taps import LevelSpec, probe, read_taps
from mmfmkt.utils import ConfigError


class Coarse(nn.Module):
    """A network that images of 128 pixels are too small for."""

    def __init__(self):
        super().__init__()
        self.neck = nn.Sequential(nn.MaxPool2d(64), nn.Conv2d(3, 5, 3))

    def extract_feat(self, x):
        return self.neck(x)


def test_a_network_for_larger_images_is_probed_with_larger_ones():
    (level,) = probe(Coarse(), 'neck', 'student')
    assert level.channels == 5 and level.stride == 384 / 4


class OnlyOnGPUs(Coarse):
    """A network with an operator that has no version for CPUs."""

    place = 'cpu'

    def to(self, device):
        self.place = device
        return super().to(device)

    def extract_feat(self, x):
        if self.place == 'cpu':
            raise RuntimeError(
                'carafe_forward_impl: implementation for device cpu not found'
            )
        return super().extract_feat(x)


def test_a_network_for_gpus_is_probed_on_the_gpu_and_comes_back(monkeypatch):
    network = OnlyOnGPUs()
    with pytest.raises(ConfigError, match='for device cpu not found'):
        probe(network, 'neck', 'student')
    # Another name of the CPU stands in for a GPU.
    monkeypatch.setattr(
        'mmfmkt.models.distillers.taps.get_device', lambda: 'cpu:0'
    )
    (level,) = probe(network, 'neck', 'student')
    assert level.channels == 5 and network.place == 'cpu'


def test_branches_of_a_student_all_follow_the_teacher():
    level = LevelSpec(channels=4, stride=8)
    flow = TapFlow(
        'neck',
        [0],
        [level],
        {0: level},
        'fmkt',
        complete_flow(dict(num_steps=2, dirac_ratio=0.5)),
    )
    for parameter in flow.parameters():
        nn.init.normal_(parameter, std=0.1)
    source, target = torch.randn(6, 4, 3, 3), torch.randn(2, 4, 3, 3)

    def losses(target):
        torch.manual_seed(0)
        return flow.transfer([source], {0: target}, weight=1.0)[0]

    assert losses(target) == losses(torch.cat([target] * 3))
    assert losses(target) != losses(torch.randn(6, 4, 3, 3))


class Deep(nn.Module):
    """Two stages, of which each is a tap."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 5, 1)

    def extract_feat(self, x):
        return self.second(self.first(x))


def test_nothing_behind_the_last_tap_is_run():
    network, ran = Deep(), []
    network.second.register_forward_hook(lambda *args: ran.append(1))
    images = torch.randn(1, 3, 4, 4)
    for taps, count in ((['first'], 0), (['second', 'first'], 1)):
        ran.clear()
        levels = read_taps(network, taps, images, 'teacher', stop=True)
        assert len(ran) == count
        whole = read_taps(network, taps, images, 'teacher')
        assert torch.equal(levels[0][0], whole[0][0])


def build(channels=(4, 4), **flow):
    levels = [LevelSpec(c, 8) for c in channels]
    numbers = list(range(len(levels)))
    settings = complete_flow(dict(num_steps=2, **flow))
    return TapFlow(
        'neck', numbers, levels, dict(enumerate(levels)), 'fmkt', settings
    )


def test_levels_may_share_one_encoder():
    own, shared = build(), build(share_encoder=True)
    sizes = [sum(p.numel() for p in x.parameters()) for x in (own, shared)]
    assert sizes[0] == 2 * sizes[1]
    again = build(share_encoder=True)
    again.load_state_dict(shared.state_dict())
    maps = list(torch.randn(2, 2, 4, 6, 5).unbind())
    for x, y in zip(shared.transport(maps), again.transport(maps)):
        assert torch.equal(x, y)
    with pytest.raises(ConfigError, match='share_encoder: level 1 .* has 5'):
        build((4, 5), share_encoder=True)
    with pytest.raises(ConfigError, match='has one for each'):
        build(encoder=[dict(type='ConvEncoder')] * 2, share_encoder=True)


def test_each_level_may_have_an_encoder_of_its_own():
    names = ['BottleneckEncoder', 'MLPEncoder']
    flow = build(encoder=[dict(type=name) for name in names])
    assert [type(x.field.encoder).__name__ for x in flow.values()] == names
    with pytest.raises(ConfigError, match='encoder has 1 values for 2'):
        build(encoder=[dict(type='ConvEncoder')])
