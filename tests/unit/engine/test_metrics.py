"""Step runs on the scheduler's page for Prometheus: while they last, and nothing of them afterwards."""

from __future__ import annotations

import sys

import pytest
from prometheus_client import REGISTRY, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from prs_dask.attempts.judge import Counts
from prs_dask.engine.metrics import Measured, show, show_no_more

COUNTS = Counts(
    supplied=9, queued=3, running=2, succeeded=3, failed=1, items=40, succeeded_items=31, failed_items=9, attempts=6
)


def page() -> dict[tuple[str, ...], float]:
    """What is ours, by name and labels."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(generate_latest(REGISTRY).decode())
        for sample in family.samples
        if sample.name.startswith("prs_dask")
    }


def test_each_step_run_is_shown_while_it_lasts() -> None:
    assert not page()
    assert show("score-1", lambda: Measured(COUNTS, lanes=4, nodes=2))
    assert show('strange "run"\n', lambda: Measured(Counts(), 0, 0))
    try:
        shown = page()
        assert shown["prs_dask_mini_batches", "score-1", "running"] == 2
        assert shown["prs_dask_mini_batches", "score-1", "failed"] == 1
        assert shown["prs_dask_items", "score-1", "failed"] == 9
        assert shown["prs_dask_attempts_total", "score-1"] == 6
        assert (shown["prs_dask_lanes", "score-1"], shown["prs_dask_nodes", "score-1"]) == (4, 2)
        assert shown["prs_dask_lanes", 'strange "run"\n'] == 0
        show_no_more("score-1")
        assert not [name for name in page() if "score-1" in name]
    finally:
        show_no_more('strange "run"\n')
        show_no_more("score-1")
    assert not page()
    show_no_more("score-1")  # twice does no harm


def test_one_that_cannot_be_measured_spoils_nothing() -> None:
    def broken() -> Measured:
        raise RuntimeError("it ends just now")

    show("broken", broken)
    show("well", lambda: Measured(COUNTS, 1, 1))
    try:
        assert [name for name in page() if "well" in name]
        assert not [name for name in page() if "broken" in name]
    finally:
        show_no_more("broken")
        show_no_more("well")


def test_without_prometheus_client_nothing_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    assert not show("score-1", lambda: Measured(COUNTS, 1, 1))
    show_no_more("score-1")
