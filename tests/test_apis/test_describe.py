"""FLOPs of composed distillations."""

import pytest
from torch import nn

from mmfmkt.apis.describe import describe_flops


class Distiller(nn.Module):
    """A network of one kernel that deploys no flow."""

    feature_transfers = ()

    def __init__(self, kernel):
        super().__init__()
        self.student = nn.Conv2d(3, 1, kernel, stride=kernel)

    def forward(self, inputs):
        return self.student(inputs)


@pytest.mark.parametrize(
    'kernel, counted',
    [
        (200, ', FLOPs of a 256x256 image'),
        (300, ', FLOPs of a 512x512 image'),
        (600, ''),
    ],
)
def test_flops_are_computed_at_the_image_size_that_a_network_needs(
    kernel, counted
):
    text = describe_flops(Distiller(kernel))
    assert text.startswith(counted) and bool(text) == bool(counted)


@pytest.mark.parametrize('num_passes', [1, 2])
def test_an_expensive_flow_is_described_with_cheaper_choices(num_passes):
    distiller = Distiller(200)
    distiller.forward = lambda x: [
        distiller.student(x) for _ in range(num_passes)
    ]
    assert ('variant theta' in describe_flops(distiller)) == (num_passes > 1)
