"""Stretches in which nothing ran are left out, and only those."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prs_dask.report.folded_time import Fold, FoldedTime

ATTEMPTS = st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e4)), min_size=1, max_size=20)


def seen(*blocks):
    time = FoldedTime()
    for block in blocks:
        time.see([start for start, _ in block], [start + seconds for start, seconds in block])
    return time


def test_time_without_a_break_is_as_it_was():
    time = seen([(100, 5), (101, 20)], [(115, 1), (300, 2)])
    assert time.folds == []
    assert list(time.of([100, 115, 302])) == [0, 15, 202]
    assert time.ends_at() == 202


def test_a_week_until_the_resume_is_left_out():
    time = seen([(0, 10)], [(604_800, 10)])
    assert time.folds == [Fold(10, 604_790)]
    assert list(time.of([0, 9, 10, 5000, 604_800, 604_805])) == [0, 9, 10, 10, 10, 15]
    assert time.ends_at() == 20
    assert [time.unfolded(at) for at in (0, 9, 10, 15)] == [0, 9, 604_800, 604_805]


def test_a_break_shorter_than_all_before_it_stays():
    assert seen([(0, 5000), (6000, 10)]).folds == []
    assert len(seen([(0, 500), (1500, 10)]).folds) == 1


@given(ATTEMPTS)
def test_order_is_kept_and_nothing_that_ran_is_lost(attempts):
    attempts.sort()
    time = seen(attempts)
    starts = np.array([start for start, _ in attempts])
    folded = time.of(starts)
    assert (np.diff(folded) >= -1e-6).all()
    lengths = time.of(starts + [seconds for _, seconds in attempts]) - folded
    assert lengths == pytest.approx([seconds for _, seconds in attempts], abs=1e-4)
    back = [time.unfolded(float(at)) for at in folded]
    if not time.folds:
        assert back == pytest.approx(list(starts), abs=1e-3)
