"""Timing of functions in turns."""

import pytest

from mmfmkt.utils.interleaved_timing import ratio_to, time_interleaved


@pytest.mark.parametrize('calls, rounds', ((3, None), (4, 1), (9, 3)))
def test_an_interrupt_after_a_complete_round_keeps_the_rounds(calls, rounds):
    remaining = iter(range(calls))

    def interrupted():
        if next(remaining, None) is None:
            raise KeyboardInterrupt

    functions = dict(a=interrupted, b=interrupted)
    if rounds is None:
        with pytest.raises(KeyboardInterrupt):
            time_interleaved(functions, 10)
    else:
        times = time_interleaved(functions, 10)
        assert [len(x) for x in times.values()] == [rounds, rounds]


def test_ratios_are_medians_of_the_ratios_of_each_round():
    """Load of the machine in one round, even of one function, is no bias."""
    times, reference = [2.0, 4.0, 2.4, 90.0, 2.2], [1.0, 2.0, 1.0, 1.0, 50.0]
    ratio = ratio_to(times, reference)
    assert ratio == dict(ratio=2.0, low=2.0, high=2.4)
