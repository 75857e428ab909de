"""What a step run has come to, in words."""

from __future__ import annotations

from dataclasses import replace

from prs_dask.logs.summary import Progress, format_progress

PROGRESS = Progress(
    state="Running",
    stage="running",
    total=None,
    created=30,
    succeeded=10,
    failed=2,
    running=4,
    failed_items=20,
    items=120,
    rate=2.5,
    seconds_left=None,
    elapsed=8.0,
)


def test_before_there_is_a_mini_batch_nothing_is_counted() -> None:
    early = replace(PROGRESS, stage="starting workers", created=0, succeeded=0, failed=0)
    assert format_progress(early) == "Running, starting workers: no mini-batches yet; 8.0 s so far"


def test_while_the_listing_goes_on_the_total_is_what_is_known_or_more() -> None:
    text = format_progress(PROGRESS)
    assert "12 of 30 or more mini-batches done" in text
    assert "time left unknown" in text
    assert "12 of 40 mini-batches done" in format_progress(replace(PROGRESS, total=40))
