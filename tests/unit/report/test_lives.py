"""When processes were started, were ready and ended."""

from __future__ import annotations

import math

import numpy as np

from prs_dask.logs.process_lives import Life as ToldLife
from prs_dask.logs.roll_up import Sums
from prs_dask.report.folded_time import FoldedTime
from prs_dask.report.lives import Life, busy_times, lives_of

BEGUN = 1_767_225_600.0


def time(begun: float = BEGUN) -> FoldedTime:
    seen = FoldedTime()
    seen.see([begun], [begun + 100])
    return seen


def test_events_tell_of_starts_and_ends_and_attempts_where_they_do_not() -> None:
    told = {
        (0, 0): ToldLife(BEGUN, BEGUN + 2, BEGUN + 50, why="the step run is over"),
        (0, 1): ToldLife(BEGUN + 1, None, BEGUN + 4, failed=True),
        (0, 2): ToldLife(BEGUN + 5, BEGUN + 6),
        (0, 3): ToldLife(ended=BEGUN + 30),
        (0, 4): ToldLife(),
    }
    processes = {
        (0, 0): Sums(first=2.5, last=40.0),
        (0, 2): Sums(first=7.0, last=60.0),
        (0, 3): Sums(first=8.0, last=20.0),
        (0, 5): Sums(first=9.0, last=21.0),
        (-1, -1): Sums(first=1.0, last=2.0),
    }
    assert lives_of(processes, told, time()) == {
        (0, 0): Life(0.0, 2.0, 50.0),
        (0, 1): Life(1.0, 4.0, 4.0, early=True),
        (0, 2): Life(5.0, 6.0, 60.0),
        (0, 3): Life(8.0, 8.0, 30.0, early=True),
        (0, 5): Life(9.0, 9.0, 21.0),
    }
    assert lives_of({}, {}, time()) == {}


def test_clocks_that_disagree_leave_times_in_order() -> None:
    lives = lives_of({(0, 0): Sums(first=3.0, last=9.0)}, {(0, 0): ToldLife(BEGUN + 4, BEGUN + 20, BEGUN + 5)}, time())
    [life] = lives.values()
    assert life.start <= life.ready <= life.end


def test_processes_are_busy_while_they_start_and_when_they_end() -> None:
    told = {
        (0, 0): ToldLife(10.0, 20.0, 90.0),
        (0, 1): ToldLife(5.0, None, 8.0, failed=True),
        (0, 2): ToldLife(30.0),
        (0, 3): ToldLife(None, 40.0, None),
    }
    times = busy_times(told)
    assert times.tolist() == [[5.0, 8.0], [8.0, 8.0], [10.0, 20.0], [30.0, 30.0], [90.0, 90.0]]
    assert busy_times({}).shape == (0, 2)
    assert not any(map(math.isnan, np.ravel(times)))
