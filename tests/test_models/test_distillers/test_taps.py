"""Taps read what networks give, whatever the networks do with a batch."""

import pytest
import torch
from torch import nn

from mmfmkt.models.distillers.flow_config import complete_flow
from mmfmkt.models.distillers.tap_flow import TapFlow
from mmfmkt.models.distillers.taps import LevelSpec, probe
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
