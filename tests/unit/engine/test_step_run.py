"""The end of the driver's loop, against a scheduler whose answers the test writes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import pytest

from prs_dask.attempts.judge import Counts, Verdict
from prs_dask.attempts.limits import RunLimits
from prs_dask.engine import step_run
from prs_dask.engine.run_settings import RunSettings
from prs_dask.engine.step_run import StepRunDriver

ROUND = 10.0
"""Seconds that each call takes, by the test's clock."""

SECONDS = step_run.END_SECONDS + 5.0


class Scheduler:
    """Brings a row, says that the step run has completed, and then what the test wants, round after round."""

    def __init__(self, rounds: Callable[[int], dict[str, Any]]) -> None:
        self.now = 0.0
        self.calls: list[str] = []
        self._rounds = rounds
        self._last = 0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None: ...

    def hurry(self, seconds: float = 0.0) -> None: ...

    def __call__(self, call: str, **arguments: Any) -> dict[str, Any]:
        self.calls.append(call)
        if call != "sync":
            return {}
        self.now += ROUND
        more = self._rounds(self.calls.count("sync"))
        entries = more.pop("entries", [])
        results = [(self._last + number, entry) for number, entry in enumerate(entries, 1)]
        self._last += len(entries)
        return {
            "results": results,
            "last": self._last,
            "more_logs": False,
            "room": 0,
            "lanes": 1,
            "nodes": 1,
            "unused_nodes": 0,
            "process_numbers": [],
            "counts": asdict(Counts()),
            "waits_for": "",
            "verdict": {"state": "Completed", "cause": ""},
            "live": 0,
            "some_live": [],
            "unstored": [],
            "seconds": 1.0,
            **more,
        }


def driver(monkeypatch: pytest.MonkeyPatch, rounds: Callable[[int], dict[str, Any]]) -> tuple[Scheduler, StepRunDriver]:
    scheduler = Scheduler(rounds)
    client: Any = SimpleNamespace(id="c", scheduler=None, _scheduler_identity={}, status="running")
    listing: Any = SimpleNamespace(
        take=lambda _: [], complete=True, exhausted=True, ahead=0, listed=1, error=None, ended=True, close=lambda: None
    )
    results: Any = SimpleNamespace(rows=0, write=lambda *_: None)
    settings = RunSettings("test", RunLimits(shutdown_seconds=5.0))
    made = StepRunDriver(client, settings, b"", (), listing, results)
    made._call = scheduler  # type: ignore[assignment]
    monkeypatch.setattr(step_run, "time", scheduler)
    return scheduler, made


LIVE = {"live": 1, "some_live": ["tcp://a:1"]}


def test_where_all_has_come_nothing_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    _, made = driver(monkeypatch, lambda number: LIVE if number < 3 else {})
    assert made._rounds() == Verdict("Completed")
    assert made.missing_logs == ""


def test_logs_that_keep_coming_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    piece = {"kind": "log", "stream": "memray", "data": b"x"}
    scheduler, made = driver(monkeypatch, lambda number: {**LIVE, "entries": [piece]} if number < 20 else {})
    assert made._rounds() == Verdict("Completed")
    assert scheduler.now == 20 * ROUND > SECONDS
    assert made.missing_logs == ""


def test_a_worker_that_sends_nothing_any_more_is_not_waited_for_and_that_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scheduler, made = driver(monkeypatch, lambda _: dict(LIVE))
    assert made._rounds() == Verdict("Completed")
    assert scheduler.now < SECONDS + 3 * ROUND
    assert "1 worker still had some to send" in made.missing_logs
    assert "tcp://a:1" in made.missing_logs


def test_who_stops_it_learns_what_is_missing_too(monkeypatch: pytest.MonkeyPatch) -> None:
    canceled = Verdict("Canceled", "as it was asked to")
    scheduler, made = driver(
        monkeypatch, lambda _: {**LIVE, "verdict": asdict(canceled) if "stop" in scheduler.calls else None}
    )
    made.stop(canceled.state, canceled.cause)
    made.hurry()
    assert made._rounds() == canceled
    assert scheduler.now == 2 * ROUND
    assert "1 worker still had some to send" in made.missing_logs


def test_a_scheduler_that_does_not_take_the_step_run_is_not_waited_for_after_a_stop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scheduler, made = driver(monkeypatch, lambda _: {})
    asked = threading.Event()

    async def hang(**_: Any) -> None:
        asked.set()
        await asyncio.sleep(step_run.REGISTER_SECONDS)

    async def nothing(**_: Any) -> None: ...

    def sync(function: Any, *arguments: Any, callback_timeout: float, **settings: Any) -> Any:
        return asyncio.run(function(*arguments, **settings))

    client: Any = made._client
    client.scheduler = SimpleNamespace(register_scheduler_plugin=hang, unregister_worker_plugin=nothing)
    client.sync = sync
    ended: list[Verdict] = []
    thread = threading.Thread(target=lambda: ended.append(made.run()))
    thread.start()
    assert asked.wait(10)
    made.stop("Canceled", "as it was asked to")
    thread.join(5)
    assert ended == [Verdict("Canceled", "as it was asked to")]
    assert scheduler.calls == ["remove"]
