"""A clock that does not count what its process has missed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from prs_dask.engine.patient_clock import GAP_SECONDS, PatientClock


def test_time_passes_where_it_is_read_often_and_stands_still_where_it_is_not():
    real = 100.0
    clock = PatientClock(lambda: real)
    begun = clock()
    for _ in range(10):
        real += 1.0
        clock()
    assert clock() - begun == 10
    real += 3600
    assert clock() - begun == 10
    real += 2
    assert clock() - begun == 12


@given(st.lists(st.integers(0, 100)))
def test_it_never_goes_back_and_counts_exactly_the_short_steps(steps):
    real = 0.0
    clock = PatientClock(lambda: real)
    told = [clock()]
    for step in steps:
        real += step
        told.append(clock())
    assert told == sorted(told)
    assert told[-1] - told[0] == sum(step for step in steps if step <= GAP_SECONDS)
