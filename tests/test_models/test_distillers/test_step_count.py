"""Properties of the step count (section 2 of the method)."""

import pickle

import pytest
import torch
from mmengine.logging import MessageHub

from mmfmkt.models.distillers.builder import complete_flow
from mmfmkt.models.distillers.step_count import StepCount

CHOICES = (1, 2, 4, 8, 16)


@pytest.fixture
def hub():
    hub = MessageHub.get_instance('test_step_count')
    yield hub
    hub.runtime_info.pop('iter', None)


def test_an_integer_is_a_fixed_step_count():
    assert [StepCount(8).draw() for _ in range(5)] == [8] * 5


def test_ranks_with_different_seeds_draw_the_same_step_count(hub):
    def draws(seed):
        torch.manual_seed(seed)
        count = StepCount(CHOICES)
        for i in range(200):
            hub.update_info('iter', i)
            yield count.draw()

    first = list(draws(seed=0))
    assert first == list(draws(seed=1))
    assert all(first.count(n) > 20 for n in CHOICES)


def test_without_a_runner_all_step_counts_are_drawn():
    assert {StepCount(CHOICES).draw() for _ in range(300)} == set(CHOICES)


def test_step_counts_can_be_pickled():
    count = StepCount(CHOICES)
    count.limit = 2
    copied = pickle.loads(pickle.dumps(count))
    assert {copied.draw() for _ in range(100)} == {1, 2}


@pytest.mark.parametrize('wrong', (0, (), (1, 0), (2, 1.5), [-1], 'one'))
def test_invalid_step_counts_raise_an_error(wrong):
    with pytest.raises(ValueError, match='^model.flow.num_steps'):
        StepCount(complete_flow(dict(num_steps=wrong)).num_steps)
