"""Channels and strides of a tap, from dummy inputs."""

import pytest
from torch import nn

from mmfmkt.models.distillers.probing import probe
from mmfmkt.utils import ConfigError


class Coarse(nn.Module):
    """Network that needs images of more than 128 pixels."""

    def __init__(self):
        super().__init__()
        self.neck = nn.Sequential(nn.MaxPool2d(64), nn.Conv2d(3, 5, 3))

    def extract_feat(self, x):
        return self.neck(x)


def test_a_network_for_large_images_is_probed_with_large_ones():
    (level,) = probe(Coarse(), 'neck', 'student')
    assert level.channels == 5 and level.stride == 384 / 4


class OnlyOnGPUs(Coarse):
    """Network with an operator that is not implemented on CPUs."""

    device = 'cpu'

    def to(self, device):
        self.device = device
        return super().to(device)

    def extract_feat(self, x):
        if self.device == 'cpu':
            raise RuntimeError(
                'carafe_forward_impl: implementation for device cpu not found'
            )
        return super().extract_feat(x)


def test_a_network_without_cpu_operators_is_probed_on_the_gpu(monkeypatch):
    network = OnlyOnGPUs()
    with pytest.raises(ConfigError, match='for device cpu not found'):
        probe(network, 'neck', 'student')
    # Another name of the CPU replaces a GPU.
    monkeypatch.setattr(
        'mmfmkt.models.distillers.probing.get_device', lambda: 'cpu:0'
    )
    (level,) = probe(network, 'neck', 'student')
    assert level.channels == 5 and network.device == 'cpu'


class Headed(nn.Module):
    """Network with a module ``head``, which runs in ``forward`` alone."""

    def __init__(self, head):
        super().__init__()
        self.backbone, self.head = nn.Conv2d(3, 2, 1), head

    def extract_feat(self, x):
        return (self.backbone(x),)

    def forward(self, x, data_samples=None, mode='tensor'):
        return self.head(self.extract_feat(x)[0])


def test_a_head_that_outputs_maps_is_tapped_like_any_other_module():
    (level,) = probe(Headed(nn.Conv2d(2, 5, 1, stride=2)), 'head', 'student')
    assert level.channels == 5 and level.stride == 2


def test_logits_are_no_feature_maps():
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ConfigError, match="'head' must output a feature map"):
        probe(Headed(pool), 'head', 'teacher')
