"""Amounts over time: none is lost, whatever the order, the span and the number of bins."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prs_dask.logs.time_bins import TimeBins

TIMES = st.floats(0, 1e7, allow_nan=False) | st.floats(1.7e9, 1.8e9)
INTERVALS = st.lists(st.tuples(TIMES, st.floats(0, 1e5), st.integers(0, 2)), max_size=30)


@given(st.lists(st.lists(st.tuples(TIMES, st.integers(0, 9)), max_size=9), max_size=5))
def test_what_is_counted_stays_counted(blocks):
    bins = TimeBins(16, 2)
    for block in blocks:
        bins.count(1, [time for time, _ in block], [amount for _, amount in block])
    assert bins.amounts(1).sum() == sum(amount for block in blocks for _, amount in block)
    assert bins.amounts(0).sum() == 0
    assert bins.used <= 16
    if bins.used:
        times = [time for block in blocks for time, _ in block]
        assert bins.edges[0] <= min(times)
        assert max(times) <= bins.edges[-1]


@given(INTERVALS, st.integers(1, 4))
def test_intervals_are_spread_over_the_bins_that_they_lie_in(intervals, blocks):
    bins = TimeBins(16, 1, 3)
    for number in range(blocks):
        some = intervals[number::blocks]
        starts, seconds, rows = ([one[at] for one in some] for at in range(3))
        bins.spread(0, np.array(starts, float), np.array(seconds, float), np.array(rows, int))
    edges = bins.edges
    for row in range(3):
        for at, amount in enumerate(bins.amounts(0, row)):
            inside = sum(
                max(0.0, min(start + length, edges[at + 1]) - max(start, edges[at]))
                for start, length, of_row in intervals
                if of_row == row
            )
            assert amount == pytest.approx(inside, rel=1e-6, abs=1e-3)


@given(INTERVALS, st.integers(1, 16))
def test_coarser_bins_hold_the_same(intervals, most):
    bins = TimeBins(16, 1)
    bins.spread(0, [one[0] for one in intervals], [one[1] for one in intervals])
    fewer = bins.coarser(most)
    assert fewer.used <= max(most, 2)  # two neighbours may lie on both sides of an edge, however wide
    assert fewer.amounts(0).sum() == pytest.approx(bins.amounts(0).sum(), abs=1e-3)


def test_bins_begin_fine_and_double():
    bins = TimeBins(8, 1, finest=1.0)
    bins.count(0, [0.5, 7.5], 1)
    assert (bins.width, bins.used) == (1.0, 8)
    bins.count(0, [8.5], 1)
    assert (bins.width, list(bins.amounts(0))) == (2.0, [1, 0, 0, 1, 1])
    bins.count(0, [-3.0], 5)
    assert list(bins.amounts(0)) == [5, 0, 1, 0, 0, 1, 1]
