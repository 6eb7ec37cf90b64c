"""Properties of pair decoupling (section 2 of the method)."""

import pytest

from mmfmkt.models.flows import decouple_pairs


@pytest.mark.parametrize('dirac_ratio', (0, 0.25, 0.5, 0.99, 1))
def test_the_first_pairs_are_kept_and_the_others_permuted(dirac_ratio):
    kept = int(dirac_ratio * 8)
    for _ in range(20):
        permutation = decouple_pairs(8, dirac_ratio)
        assert permutation[:kept].tolist() == list(range(kept))
        assert sorted(permutation.tolist()) == list(range(8))


def test_permutations_are_random():
    permutations = {tuple(decouple_pairs(8, 0.5).tolist()) for _ in range(50)}
    assert len(permutations) > 5
