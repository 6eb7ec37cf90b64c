"""Timing of functions in turns."""

import pytest

from mmfmkt.utils.interleaved_timing import time_interleaved


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
