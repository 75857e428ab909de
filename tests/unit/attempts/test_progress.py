"""Rate and time left."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prs_dask.attempts.progress import WINDOW_SECONDS, ProgressMeter


def metered(*samples: tuple[float, int]) -> ProgressMeter:
    meter = ProgressMeter()
    for now, ended in samples:
        meter.add(now, ended)
    return meter


def test_nothing_is_known_at_first():
    meter = ProgressMeter()
    assert meter.rate(5.0) == 0
    assert meter.seconds_left(5.0, 0, 100) is None


def test_one_look_is_no_rate():
    assert metered((5.0, 3)).rate(5.0) == 0
    assert metered((5.0, 3)).rate(6.0) == 0


def test_the_rate_is_what_ended_by_the_time_it_took():
    meter = metered((0.0, 0), (1.0, 10), (2.0, 20))
    assert meter.rate(2.0) == 10
    assert meter.seconds_left(2.0, 20, 100) == 8


def test_the_rate_falls_while_nothing_ends():
    meter = metered((0.0, 0), (1.0, 10))
    assert meter.rate(10.0) == 1


def test_an_old_pace_is_forgotten():
    meter = metered(*[(float(second), 1000 * second) for second in range(10)])
    for second in range(10, 60):
        meter.add(float(second), 9000 + second)
    assert meter.rate(59.0) == pytest.approx(1.0, rel=0.05)


def test_mini_batches_of_minutes_have_a_rate_between_their_ends_too():
    meter = ProgressMeter()
    for second in range(0, 3600):
        meter.add(float(second), second // 300)
        assert second < 300 or meter.rate(float(second)) > 0
    assert meter.rate(3600.0) == pytest.approx(1 / 300, rel=0.1)
    assert len(meter._samples) <= 22


def test_looking_often_keeps_few_samples_and_the_newest_count():
    meter = metered(*[(index / 1000, index) for index in range(100_000)])
    assert len(meter._samples) <= 2 + 2 * WINDOW_SECONDS
    assert meter.rate(100.0) == pytest.approx(1000, rel=0.02)


def test_while_the_total_is_unknown_so_is_the_time_left():
    assert metered((0.0, 0), (1.0, 10)).seconds_left(1.0, 10, None) is None


def test_at_the_end_no_time_is_left():
    meter = metered((0.0, 0), (1.0, 10))
    assert meter.seconds_left(1.0, 10, 10) == 0
    assert meter.seconds_left(1.0, 12, 10) == 0


STEPS = st.lists(st.tuples(st.floats(0, 100), st.integers(0, 1000)), max_size=60)


@given(STEPS, st.floats(0, 100), st.none() | st.integers(0, 100_000))
def test_rate_and_time_left_are_never_negative(steps, wait, total):
    meter, now, ended = ProgressMeter(), 0.0, 0
    for seconds, more in steps:
        now += seconds
        ended += more
        meter.add(now, ended)
        assert meter.rate(now) >= 0
    assert meter.rate(now + wait) >= 0
    left = meter.seconds_left(now + wait, ended, total)
    assert left is None or left >= 0
