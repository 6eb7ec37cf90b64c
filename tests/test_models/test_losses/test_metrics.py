"""The metrics against their formulas, and at the edges of their domain."""

import pytest
import torch

from mmfmkt.models.losses import MSELoss, PKDLoss

METRICS = (PKDLoss(), MSELoss())


def test_pkd_is_one_minus_the_correlation_of_each_channel():
    p, q = torch.randn(2, 3, 4, 5, 6, dtype=torch.float64).unbind()
    rows = [x.transpose(0, 1).flatten(1) for x in (p, q)]
    correlations = [
        torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(*rows)
    ]
    expected = 1 - torch.stack(correlations).mean()
    torch.testing.assert_close(PKDLoss()(p, q), expected)


def test_pkd_ignores_scale_and_shift_of_channels():
    p, q = torch.randn(2, 3, 4, 5, 6, dtype=torch.float64).unbind()
    scale = torch.rand(1, 4, 1, 1).double() + 0.5
    torch.testing.assert_close(PKDLoss()(p * scale - 3, q), PKDLoss()(p, q))
    assert PKDLoss()(q * scale + 2, q) < 1e-12


def test_mse_is_the_mean_of_squares():
    p, q = torch.randn(2, 3, 4, 5, 6).unbind()
    torch.testing.assert_close(MSELoss()(p, q), ((p - q)**2).mean())


@pytest.mark.parametrize('metric', METRICS)
def test_gradients_are_right_in_float64(metric):
    p, q = torch.randn(2, 2, 3, 2, 2, dtype=torch.float64).unbind()
    assert torch.autograd.gradcheck(lambda p: metric(p, q),
                                    p.clone().requires_grad_())


@pytest.mark.parametrize('metric', METRICS)
@pytest.mark.parametrize('constant', (0., 3.7, -1e4))
def test_constant_inputs_give_finite_values_and_gradients(metric, constant):
    p = torch.full((2, 3, 4, 4), constant, requires_grad=True)
    for q in (torch.randn(2, 3, 4, 4), torch.full((2, 3, 4, 4), 1.)):
        loss = metric(p, q)
        grad, = torch.autograd.grad(loss, p)
        assert loss.isfinite() and grad.isfinite().all()


@pytest.mark.parametrize('metric', METRICS)
@pytest.mark.parametrize('dtype', (torch.float16, torch.bfloat16))
def test_half_inputs_are_compared_in_float32(metric, dtype):
    p, q = (torch.randn(2, 3, 4, 5, 6) * 300).to(dtype).unbind()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = metric(p, q)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, metric(p.float(), q.float()))


@pytest.mark.parametrize('metric', METRICS)
def test_no_gradient_reaches_the_target(metric):
    p, q = torch.randn(2, 2, 3, 4, 4).requires_grad_().unbind()
    q = q.detach().requires_grad_()
    metric(p, q).backward()
    assert q.grad is None


@pytest.mark.parametrize('metric', METRICS)
def test_other_shapes_are_refused_in_one_sentence(metric):
    with pytest.raises(ValueError, match='tensors of one shape'):
        metric(torch.zeros(1, 2, 3, 3), torch.zeros(1, 3, 3, 3))
