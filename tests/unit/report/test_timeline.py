"""Where time went: every second of every process is told once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prs_dask.logs.roll_up import RECORD
from prs_dask.report.timeline import FAILED, MOST_EXACT, MOST_LANES, READ, REST, RUN, STARTING, WAITING, Timeline

SECONDS = st.floats(0, 100)


def block(attempts):
    records = np.zeros(len(attempts), RECORD)
    for at, (_, category, read, run, rest) in enumerate(attempts):
        records[at]["category"], records[at]["read"], records[at]["run"] = category, read, run
        records[at]["elapsed"] = read + run + rest
    return np.array([attempt[0] for attempt in attempts], float), records


@settings(max_examples=50)
@given(st.lists(st.tuples(st.floats(0, 1e4), st.sampled_from([0, 1]), SECONDS, SECONDS, SECONDS), min_size=1))
def test_seconds_add_up(attempts):
    timeline = Timeline()
    starts, records = block(attempts)
    timeline.add([(0, 0)], np.zeros(len(attempts), int), starts, records, str)
    timeline.add_lives([(0, 0)], [-7.0], [0.0], [20_000.0])
    seconds = timeline.seconds()
    assert seconds[READ] == pytest.approx(sum(one[2] for one in attempts), rel=1e-3, abs=1e-2)
    assert seconds[RUN] == pytest.approx(sum(one[3] for one in attempts if not one[1]), rel=1e-3, abs=1e-2)
    assert seconds[FAILED] == pytest.approx(sum(one[3] for one in attempts if one[1]), rel=1e-3, abs=1e-2)
    assert seconds[REST] == pytest.approx(sum(one[4] for one in attempts), rel=1e-3, abs=0.1)
    assert seconds[STARTING] == pytest.approx(7)
    busy = sum(seconds[kind] for kind in (RUN, FAILED, READ, REST))
    assert seconds[WAITING] == pytest.approx(max(0, 20_000 - busy), rel=1e-3, abs=0.1)


def test_few_attempts_are_kept_one_by_one_and_many_are_not():
    timeline = Timeline()
    starts, records = block([(float(at), 0, 0.1, 0.5, 0.1) for at in range(MOST_EXACT)])
    timeline.add([(0, 0)], np.zeros(MOST_EXACT, int), starts, records, str)
    exact = timeline.exact
    assert exact is not None
    assert (len(exact.records), exact.names[:2]) == (MOST_EXACT, ["0", "1"])
    timeline.add([(0, 0)], np.zeros(1, int), starts[:1], records[:1], str)
    assert timeline.exact is None


def test_processes_beyond_the_lanes_are_in_the_whole_only():
    timeline = Timeline()
    count = MOST_LANES + 10
    starts, records = block([(0.0, 0, 0, 1.0, 0)] * count)
    timeline.add([(0, number) for number in range(count)], np.arange(count), starts, records, str)
    assert (len(timeline.lanes), len(timeline.left_out)) == (MOST_LANES, 10)
    assert timeline.whole.amounts(RUN).sum() == pytest.approx(count)
    assert timeline.by_lane.amounts(RUN).sum() == pytest.approx(MOST_LANES)


def test_attempts_lost_with_their_process_have_no_lane():
    timeline = Timeline()
    starts, records = block([(0.0, 7, 0, 1.0, 0)])
    timeline.add([(-1, -1)], np.zeros(1, int), starts, records, str)
    assert (timeline.lanes, timeline.left_out) == ({}, set())
    assert timeline.seconds()[FAILED] == pytest.approx(1)
