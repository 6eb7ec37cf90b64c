"""Reading of taps."""

import torch
from torch import nn

from mmfmkt.models.distillers.taps import read_taps


class Deep(nn.Module):
    """Network with two stages, each of which is tapped."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 5, 1)

    def extract_feat(self, x):
        return self.second(self.first(x))


def test_the_forward_pass_stops_at_the_last_tap():
    network, calls = Deep(), []
    network.second.register_forward_hook(lambda *args: calls.append(1))
    images = torch.randn(1, 3, 4, 4)
    for taps, count in ((['first'], 0), (['second', 'first'], 1)):
        calls.clear()
        levels = read_taps(network, taps, images, 'teacher', stop=True)
        assert len(calls) == count
        whole = read_taps(network, taps, images, 'teacher')
        assert torch.equal(levels[0][0], whole[0][0])
