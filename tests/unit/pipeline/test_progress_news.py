"""A program's function is told of progress, and whatever it does, nothing else notices."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any

import pytest

from prs_dask.logs.summary import Progress
from prs_dask.pipeline import progress_news
from prs_dask.pipeline.progress_news import ProgressNews

PROGRESS = Progress("Running", "running", 4000, 4000, 1200, 3, 2, 30, 12_030, 60.0, 46.7, 20.0)


class Run:
    """A step run that ends when it is told to."""

    def __init__(self) -> None:
        self.now = PROGRESS
        self.ended = threading.Event()
        self.complaints: list[str] = []

    def progress(self) -> Progress:
        return self.now

    def news(self, call: Any) -> ProgressNews:
        return ProgressNews(call, self.progress, self.ended, self.complaints.append)

    def end(self) -> None:
        self.now = replace(PROGRESS, state="Completed")
        self.ended.set()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(progress_news, "SECONDS_BETWEEN", 0.02)
    return Run()


def test_it_is_called_at_once_now_and_then_and_once_at_the_end(run: Run) -> None:
    told: list[Progress] = []
    news = run.news(told.append)
    end = time.monotonic() + 10
    while len(told) < 3 and time.monotonic() < end:
        time.sleep(0.01)
    run.end()
    news.join(10)
    states = [one.state for one in told]
    assert states[:3] == ["Running"] * 3
    assert states.count("Completed") == 1
    assert states[-1] == "Completed"


def test_it_has_a_thread_of_its_own(run: Run) -> None:
    threads: list[threading.Thread] = []
    news = run.news(lambda _: threads.append(threading.current_thread()))
    run.end()
    news.join(10)
    assert threads
    assert threading.current_thread() not in threads


@pytest.mark.parametrize("error", [ValueError("no network"), SystemExit(3)])
def test_what_it_raises_is_told_once_and_it_is_called_on(run: Run, error: BaseException) -> None:
    calls: list[str] = []

    def call(progress: Progress) -> None:
        calls.append(progress.state)
        raise error

    news = run.news(call)
    end = time.monotonic() + 10
    while len(calls) < 3 and time.monotonic() < end:
        time.sleep(0.01)
    run.end()
    news.join(10)
    assert calls[-1] == "Completed"
    (complaint,) = run.complaints
    assert type(error).__name__ in complaint


def test_one_that_hangs_holds_nothing_up(run: Run) -> None:
    go_on = threading.Event()
    news = run.news(lambda _: go_on.wait(30))
    run.end()
    begun = time.monotonic()
    news.join(0.1)
    assert time.monotonic() - begun < 10
    go_on.set()
    news.join(10)


def test_it_may_wait_for_the_step_run_itself(run: Run) -> None:
    joined = threading.Event()
    made: list[ProgressNews] = []

    def call(_: Progress) -> None:
        if run.ended.is_set() and made:
            made[0].join(30)
            joined.set()

    made.append(run.news(call))
    run.end()
    assert joined.wait(10)
