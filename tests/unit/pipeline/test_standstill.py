"""What is waited for is told once it has lasted, and only as long as it lasts."""

from __future__ import annotations

from prs_dask.pipeline.standstill import TOLD_AFTER_SECONDS, Standstill


def test_what_lasts_is_told_until_something_runs() -> None:
    standstill = Standstill()
    assert standstill.stage(100.0) == ""
    standstill.update("waiting for workers", 100.0)
    assert standstill.stage(100.0) == ""
    standstill.update("waiting for workers", 100.0 + TOLD_AFTER_SECONDS)
    assert standstill.stage(100.0 + TOLD_AFTER_SECONDS) == "waiting for workers"
    standstill.update("", 102.0)
    assert standstill.stage(200.0) == ""


def test_each_thing_has_to_last() -> None:
    standstill = Standstill()
    standstill.update("waiting for workers", 100.0)
    standstill.update("starting processes", 101.0)
    assert standstill.stage(101.5) == ""
    assert standstill.stage(101.0 + TOLD_AFTER_SECONDS) == "starting processes"
