"""What is due, whatever the clock does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from prs_dask.logs.due import Due, Every
from prs_dask.logs.summary import Progress

PROGRESS = Progress("Running", "running", None, 1, 0, 0, 0, 0, 0, 0.0, None, 1.0)
NOW = 1_767_225_600.0


def test_it_is_due_once_in_so_many_seconds() -> None:
    every = Every(10.0)
    assert [every(NOW + second) for second in (0, 1, 9.9, 10, 11, 35, 44, 45)] == [
        True, False, False, True, False, True, False, True,
    ]  # fmt: skip


def test_it_can_be_made_due() -> None:
    every = Every(10.0)
    assert every(NOW)
    every.due_now()
    assert [every(NOW + 1), every(NOW + 2)] == [True, False]


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_is_set_costs_no_more_than_one_time_too_many(hours: int) -> None:
    every, due = Every(10.0), Due(10.0)
    times = [NOW, NOW + 5, *(NOW + hours * 3600 + second for second in (5.5, 6, 15.5, 16))]
    told = [True, False, True, False, True, False]
    assert [every(now) for now in times] == told
    assert [due(PROGRESS, now) for now in times] == told


def test_a_change_of_state_or_stage_is_due_at_once() -> None:
    due = Due(10.0)
    assert due(PROGRESS, NOW)
    assert due(replace(PROGRESS, stage="closing"), NOW + 1)
    assert [due(replace(PROGRESS, stage="closing"), NOW + second) for second in (10.9, 11)] == [False, True]
