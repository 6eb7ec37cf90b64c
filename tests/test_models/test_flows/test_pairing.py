"""Properties of pair decoupling (section 2 of the method)."""

import pytest
import torch

from mmfmkt.models.flows import decouple_pairs


@pytest.mark.parametrize('dirac_ratio', (0, 0.25, 0.5, 0.99, 1))
def test_first_pairs_stay_and_the_rest_is_a_permutation(dirac_ratio):
    kept = int(dirac_ratio * 8)
    for _ in range(20):
        order = decouple_pairs(8, dirac_ratio)
        assert order[:kept].tolist() == list(range(kept))
        assert sorted(order.tolist()) == list(range(8))


def test_pairs_are_really_decoupled():
    orders = {tuple(decouple_pairs(8, 0.5).tolist()) for _ in range(50)}
    assert len(orders) > 5


def test_the_teachers_tensor_is_untouched():
    target = torch.randn(8, 3, 2, 2)
    before, version = target.clone(), target._version
    shuffled = target[decouple_pairs(8, 0.0)]
    shuffled.zero_()
    assert torch.equal(target, before) and target._version == version
