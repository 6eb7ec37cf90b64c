"""Taps read outputs in every form that networks return."""

import torch
from torch import nn

from mmfmkt.models.distillers.taps import read_taps


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
