"""Channels and strides of a tap are determined without data."""

import pytest
from torch import nn

from mmfmkt.models.distillers.probing import probe
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


def test_a_network_for_gpus_is_probed_on_the_gpu_and_moved_back(monkeypatch):
    network = OnlyOnGPUs()
    with pytest.raises(ConfigError, match='for device cpu not found'):
        probe(network, 'neck', 'student')
    # Another name of the CPU stands in for a GPU.
    monkeypatch.setattr(
        'mmfmkt.models.distillers.probing.get_device', lambda: 'cpu:0'
    )
    (level,) = probe(network, 'neck', 'student')
    assert level.channels == 5 and network.place == 'cpu'
