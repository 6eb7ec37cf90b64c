"""Properties of the meta-encoders (section 5 of the method)."""

import pytest
import torch
from torch import nn

from mmfmkt.models.flows import (
    BottleneckEncoder,
    ConvEncoder,
    ConvNeXtEncoder,
    DepthwiseConvEncoder,
    MetaEncoder,
    MLPEncoder,
    TransformerEncoder,
)
from mmfmkt.models.flows.encoders.time_embedding import (
    sinusoidal_embedding,
    sinusoidal_frequencies,
)
from mmfmkt.models.flows.encoders.window_attention import WindowAttention

ENCODERS = (
    BottleneckEncoder,
    ConvEncoder,
    DepthwiseConvEncoder,
    MLPEncoder,
    TransformerEncoder,
    ConvNeXtEncoder,
)
VECTORS = [x for x in ENCODERS if x.takes_vectors]


@pytest.mark.parametrize('encoder', ENCODERS)
@pytest.mark.parametrize(
    'shape',
    [(1, 2, 1, 1), (2, 1, 4, 4), (2, 7, 5, 3), (1, 8, 13, 8), (1, 4, 14, 21)],
)
def test_outputs_have_the_shape_of_the_inputs(encoder, shape):
    state = torch.randn(shape)
    assert encoder(shape[1], zero_init=False)(state, 0.5).shape == shape


@pytest.mark.parametrize('encoder', VECTORS)
@pytest.mark.parametrize('shape', [(1, 2), (5, 1), (3, 7)])
def test_vectors_equal_maps_of_one_pixel(encoder, shape):
    state, built = torch.randn(shape), encoder(shape[1], zero_init=False)
    torch.testing.assert_close(
        built(state, 0.5), built(state[..., None, None], 0.5)[..., 0, 0]
    )


@pytest.mark.parametrize('encoder', ENCODERS)
def test_zero_init_starts_at_zero_velocity_and_has_a_gradient(encoder):
    state = torch.randn(2, 4, 5, 5)
    built = encoder(4)
    velocity = built(state, 0.5)
    assert not velocity.any()
    (velocity - state).square().sum().backward()
    assert any(p.grad.any() for p in built.layers[-1].parameters())
    assert encoder(4, zero_init=False)(state, 0.5).any()


def test_zero_init_of_a_container_zeroes_its_last_module_alone():
    first, last = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
    layers = [nn.Sequential(first, nn.SiLU(), last, nn.SiLU())]
    assert not MetaEncoder(4, layers)(torch.randn(2, 4, 5, 5), 0.5).any()
    assert first.weight.all() and not last.weight.any()
    with pytest.raises(ValueError, match='parameters, got SiLU'):
        MetaEncoder(4, [first, nn.SiLU()])
    MetaEncoder(4, [first, nn.SiLU()], zero_init=False)


@pytest.mark.parametrize('deep', (False, True))
@pytest.mark.parametrize('encoder', ENCODERS)
def test_velocity_depends_on_time(encoder, deep):
    torch.manual_seed(0)  # the deep embedding may start dead
    state = torch.randn(2, 4, 5, 5)
    built = encoder(4, zero_init=False, deep_time=deep)
    assert not torch.allclose(built(state, 0.25), built(state, 1.0))


@pytest.mark.parametrize('encoder', ENCODERS)
def test_every_parameter_gets_a_gradient(encoder):
    # PyTorch would otherwise have data parallelism wait for it.
    built = encoder(4, zero_init=False, deep_time=True)
    built(torch.randn(2, 4, 9, 9), 0.5).square().sum().backward()
    assert all(p.grad is not None for p in built.parameters())


@pytest.mark.parametrize('encoder', ENCODERS)
def test_encoders_do_not_modify_the_state_in_place(encoder):
    state = torch.randn(2, 4, 9, 9)
    before = state.clone()
    encoder(4, zero_init=False)(state, 0.5)
    assert torch.equal(state, before)


BOTTLENECKS = (dict(), dict(stride=2, kernel_size=3), dict(stride=3))


@pytest.mark.parametrize('settings', BOTTLENECKS)
@pytest.mark.parametrize('encoder', ENCODERS)
def test_encoders_equal_their_body_between_linear_projections(
    encoder, settings
):
    if settings and encoder is not BottleneckEncoder:
        return
    built = encoder(8, zero_init=False, **settings).double()
    state, other = torch.randn(2, 2, 8, 7, 5, dtype=torch.float64).unbind()
    (time,) = built.embed_times([0.5])
    hidden = built.body(built.proj_in(state), time)
    output = built.proj_out(hidden, state)
    torch.testing.assert_close(output, built(state, 0.5))
    for weight in (built.fused_weight(), None):
        torch.testing.assert_close(
            built.update(hidden, state, weight), built.proj_in(output)
        )
    for f in (built.proj_in, lambda x: built.proj_out(built.proj_in(x), x)):
        torch.testing.assert_close(
            f(3 * state - other), 3 * f(state) - f(other)
        )


def test_parameters_of_convnext_are_proportional_to_its_blocks():
    one, two = (ConvNeXtEncoder(4, num_blocks=n) for n in (1, 2))
    sizes = [sum(p.numel() for p in x.layers.parameters()) for x in (one, two)]
    assert sizes[1] == 2 * sizes[0]


@pytest.mark.parametrize('shift', (0, 3))
@pytest.mark.parametrize('size', [(14, 7), (9, 12), (3, 20)])
def test_attention_stays_within_windows(shift, size):
    torch.manual_seed(0)
    attention = WindowAttention(4, 2, 8, 7, shift)
    x = torch.randn(2, 4, *size, requires_grad=True)
    row, column = size[0] // 2, size[1] - 1
    attention(x)[1, :, row, column].sum().backward()
    assert not x.grad[0].any()
    reached = x.grad[1].abs().sum(0) > 0
    expected = torch.zeros(size, dtype=torch.bool)
    for i in range(size[0]):
        for j in range(size[1]):
            expected[i, j] = (i + shift) // 7 == (row + shift) // 7 and (
                j + shift
            ) // 7 == (column + shift) // 7
    assert torch.equal(reached, expected)


def test_attention_equals_its_formula():
    torch.manual_seed(0)
    attention = WindowAttention(4, 2, 8, 7, 0).double()
    x = torch.randn(1, 4, 7, 7, dtype=torch.float64)
    tokens = x[0].flatten(1).T
    weight = attention.qkv.weight[:, :, 0, 0]
    q, k, v = (tokens @ weight.T).chunk(3, dim=1)
    heads = []
    for h in range(2):
        part = slice(8 * h, 8 * h + 8)
        scores = (q[:, part] @ k[:, part].T / 8**0.5).softmax(1)
        heads.append(scores @ v[:, part])
    proj = attention.proj
    expected = torch.cat(heads, 1) @ proj.weight[:, :, 0, 0].T + proj.bias
    torch.testing.assert_close(attention(x)[0].flatten(1).T, expected)


@pytest.mark.parametrize('dim', (1, 2, 5, 8))
def test_sinusoidal_embedding_equals_its_formula(dim):
    half = dim // 2
    angles = [0.3 * 1e4 ** (-k / half) for k in range(half)]
    angles = torch.tensor(angles)
    expected = torch.cat([angles.cos(), angles.sin(), torch.zeros(dim % 2)])
    for times in ([0.3], [0.3, 0.9]):
        row = sinusoidal_embedding(times, sinusoidal_frequencies(dim), dim)[0]
        torch.testing.assert_close(row, expected)
