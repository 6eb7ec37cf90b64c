"""Properties of the meta-encoders (section 5 of the method)."""

import pytest
import torch

from mmfmkt.models.flows import ConvEncoder, ConvNeXtEncoder
from mmfmkt.models.flows.time_embedding import TimeEmbedding, sinusoids

ENCODERS = (ConvEncoder, ConvNeXtEncoder)


@pytest.mark.parametrize('encoder', ENCODERS)
@pytest.mark.parametrize('shape', [(1, 2, 1, 1), (2, 1, 4, 4), (2, 7, 5, 3),
                                   (1, 8, 13, 8)])
def test_any_shape_is_kept(encoder, shape):
    state = torch.randn(shape)
    assert encoder(shape[1], zero_init=False)(state, 0.5).shape == shape


@pytest.mark.parametrize('encoder', ENCODERS)
def test_zero_init_starts_with_no_velocity_and_can_leave_it(encoder):
    state = torch.randn(2, 4, 5, 5)
    built = encoder(4)
    velocity = built(state, 0.5)
    assert not velocity.any()
    (velocity - state).square().sum().backward()
    assert built.layers[-1].weight.grad.any()
    assert encoder(4, zero_init=False)(state, 0.5).any()


@pytest.mark.parametrize('encoder', ENCODERS)
def test_velocity_depends_on_time(encoder):
    state, built = torch.randn(2, 4, 5, 5), encoder(4, zero_init=False)
    assert not torch.allclose(built(state, 0.25), built(state, 1.0))


@pytest.mark.parametrize('dim', (1, 2, 5, 8))
def test_sinusoids_follow_their_formula(dim):
    half = dim // 2
    angles = [0.3 * 1e4**(-k / half) for k in range(half)]
    angles = torch.tensor(angles)
    expected = torch.cat([angles.cos(), angles.sin(), torch.zeros(dim % 2)])
    torch.testing.assert_close(sinusoids(0.3, dim), expected)


def test_time_is_one_number_per_channel():
    assert TimeEmbedding(5)(0.5).shape == (5, 1, 1)
