"""The axis of run times can be read, whether they differ by much or by nothing."""

from __future__ import annotations

import pytest

from prs_dask.attempts.records import AttemptRecord, pack
from prs_dask.logs.roll_up import RollUp
from prs_dask.report.figures import run_times


def labels(*seconds: float) -> list[str]:
    """What stands at the axis where bars are drawn."""
    roll_up = RollUp()
    records = [AttemptRecord(at, 1, 0, 1, 1, 1, 0, 1e9 + at, one, 0.0, one, 0.0) for at, one in enumerate(seconds)]
    roll_up.add(0, 0, pack(records))
    figure = run_times(roll_up)
    bars = [one.data_source.data for one in figure.renderers if len(one.data_source.data["left"])]
    low, high = min(min(one["left"]) for one in bars), max(max(one["right"]) for one in bars)
    told = figure.xaxis[0].major_label_overrides
    return [told[tick] for tick in figure.xaxis[0].ticker.ticks if low <= tick <= high]


@pytest.mark.parametrize(
    ("seconds", "found"),
    [
        ((0.154, 0.155, 0.156), ["150 ms", "158 ms"]),
        ((0.0000012,), ["1.19 µs", "1.26 µs"]),
        ((70_000.0,), ["66800 s", "70800 s"]),
        ((0.12, 0.16), ["119 ms", "133 ms", "150 ms", "168 ms"]),
    ],
)
def test_times_that_are_about_the_same_have_the_edges_of_their_bars_told(seconds, found) -> None:
    assert labels(*seconds) == found


def test_times_that_differ_by_much_have_round_numbers() -> None:
    assert labels(0.0015, 0.15) == ["2 ms", "5 ms", "10 ms", "20 ms", "50 ms", "100 ms"]
