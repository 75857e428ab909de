"""How much one claim takes: enough to be cheap, little enough to stay fair."""

from __future__ import annotations

import math

from hypothesis import assume, given
from hypothesis import strategies as st

from prs_dask.attempts.chunks import (
    CHUNK_BYTES,
    MAX_CHUNK,
    MeanCost,
    box_seconds,
    chunk_size,
    queue_target,
    report_seconds,
    target_seconds,
)

SLOTS = st.integers(1, 5000)
COSTS = st.tuples(st.integers(1, 10_000), st.floats(0, 1e6), st.integers(0, 1 << 40))


def mean_of(*costs: tuple[int, float, int]) -> MeanCost:
    mean = MeanCost()
    for cost in costs:
        mean.add(*cost)
    return mean


MEANS = st.lists(COSTS, max_size=5).map(lambda costs: mean_of(*costs))


def test_the_first_ones_are_single():
    assert chunk_size(MeanCost(), 4, None) == 1
    assert chunk_size(MeanCost(), 4, 10_000) == 1


def test_slow_mini_batches_are_handed_out_alone():
    assert chunk_size(mean_of((1, 10.0, 0)), 2, None) == 1


def test_quick_ones_fill_a_quarter_of_a_second():
    assert chunk_size(mean_of((100, 1.0, 0)), 2, None) == 25


def test_with_very_many_lanes_a_chunk_takes_longer():
    assert target_seconds(10) == 0.25
    assert target_seconds(1000) == 2.0
    assert chunk_size(mean_of((100, 1.0, 0)), 1000, None) == 200


def test_no_time_at_all_gives_the_largest_chunk():
    assert chunk_size(mean_of((10, 0.0, 0)), 2, None) == MAX_CHUNK


def test_a_chunk_makes_8_megabytes_at_most():
    assert chunk_size(mean_of((1, 1e-6, 1 << 20)), 2, None) == 8
    assert chunk_size(mean_of((1, 1e-6, 1 << 30)), 2, None) == 1


def test_near_the_end_what_is_left_is_shared():
    mean = mean_of((100, 0.1, 0))
    assert chunk_size(mean, 2, None) == 250
    assert chunk_size(mean, 2, 100) == 25
    assert chunk_size(mean, 2, 5) == 2
    assert chunk_size(mean, 2, 0) == 1


@given(MEANS, SLOTS, st.none() | st.integers(0, 10**9))
def test_a_chunk_is_within_all_its_bounds(mean, slots, remaining):
    size = chunk_size(mean, slots, remaining)
    assert 1 <= size <= MAX_CHUNK
    if size > 1:
        assert size * mean.seconds <= target_seconds(slots) * (1 + 1e-9)
        assert size * mean.bytes <= CHUNK_BYTES * (1 + 1e-9)
        assert remaining is None or size <= math.ceil(remaining / (2 * slots))


@given(MEANS, SLOTS, st.integers(0, 10**6), st.integers(0, 10**6))
def test_more_that_is_left_never_makes_a_chunk_smaller(mean, slots, remaining, more):
    size = chunk_size(mean, slots, remaining)
    assert size <= chunk_size(mean, slots, remaining + more) <= chunk_size(mean, slots, None)


@given(MEANS, SLOTS)
def test_four_chunks_wait_for_each_lane(mean, slots):
    assume(mean.seconds is not None)
    target = queue_target(mean, slots)
    assert target == 4 * slots * chunk_size(mean, slots, None)
    assert 4 * slots <= target <= 4 * slots * MAX_CHUNK


def test_before_anything_is_known_so_many_wait_that_the_first_chunk_leaves_some_for_other_lanes():
    assert queue_target(MeanCost(), 3) == 3 * 64


@given(st.integers(0, 100_000))
def test_the_box_is_twice_the_target(slots):
    assert box_seconds(slots) == 2 * target_seconds(slots) >= 0.5


def test_lanes_report_five_times_a_second_and_all_together_at_most_five_hundred_times():
    assert report_seconds(1) == report_seconds(100) == 0.2
    assert report_seconds(1000) == 2.0


class TestMeanCost:
    def test_the_first_measurement_is_taken_as_it_is(self):
        mean = mean_of((4, 2.0, 400))
        assert (mean.seconds, mean.bytes) == (0.5, 100)

    def test_nothing_measured_changes_nothing(self):
        mean = mean_of((0, 5.0, 5))
        assert mean.seconds is None
        mean = mean_of((4, 2.0, 400), (0, 9.0, 9))
        assert (mean.seconds, mean.bytes) == (0.5, 100)

    def test_a_new_pace_is_followed_within_a_few_reports(self):
        mean = mean_of((1, 10.0, 0), *[(1, 0.01, 0)] * 20)
        assert mean.seconds < 0.03

    @given(st.lists(COSTS, min_size=1, max_size=20))
    def test_the_mean_stays_between_the_extremes(self, costs):
        mean = mean_of(*costs)
        seconds = [total / count for count, total, _ in costs]
        sizes = [size / count for count, _, size in costs]
        assert min(seconds) * (1 - 1e-9) <= mean.seconds <= max(seconds) * (1 + 1e-9)
        assert min(sizes) * (1 - 1e-9) <= mean.bytes <= max(sizes) * (1 + 1e-9)
