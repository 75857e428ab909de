"""How long the end waits, and what it says then."""

from __future__ import annotations

import pytest

from prs_dask.engine.end_wait import LOGS_SECONDS, EndWait

FILE = {"kind": "file"}
LOG = {"kind": "log", "stream": "memray"}
SAMPLE = {"kind": "log", "stream": "usage"}


def begun(seconds: float = 60.0) -> EndWait:
    wait = EndWait(seconds)
    wait.begin(1000.0)
    return wait


def test_before_the_end_nothing_is_late() -> None:
    wait = EndWait(0.0)
    wait.came([FILE, LOG], 5.0)
    assert not wait.is_late(1e9)


def test_so_long_nothing_may_come() -> None:
    wait = begun()
    assert [wait.is_late(now) for now in (1000.0, 1060.0, 1060.1)] == [False, False, True]


@pytest.mark.parametrize("entry", [FILE, LOG])
def test_what_comes_puts_it_off(entry: dict[str, str]) -> None:
    wait = begun()
    wait.came([{"kind": "permit"}, entry], 1050.0)
    wait.came([], 1100.0)
    assert [wait.is_late(now) for now in (1110.0, 1110.1)] == [False, True]


def test_samples_and_news_that_come_as_long_as_a_worker_lives_do_not() -> None:
    wait = begun()
    wait.came([SAMPLE, {"kind": "note"}], 1050.0)
    assert wait.is_late(1060.1)


def test_what_came_before_the_end_does_not() -> None:
    wait = EndWait(60.0)
    wait.came([FILE, LOG], 900.0)
    wait.begin(1000.0)
    assert [wait.is_late(now) for now in (1060.0, 1060.1)] == [False, True]


def test_logs_may_not_come_for_ever_but_files_may() -> None:
    wait = begun()
    now = 1000.0
    while now < 1000.0 + 2 * LOGS_SECONDS:
        now += 30.0
        wait.came([LOG], now)
        assert wait.is_late(now) == (now > 1000.0 + LOGS_SECONDS + 60.0)
    wait.came([FILE], now)
    assert not wait.is_late(now + 60.0)


def test_who_is_in_a_hurry_waits_for_nothing() -> None:
    wait = begun()
    wait.came([LOG], 1001.0)
    wait.seconds = 0.0
    assert wait.is_late(1001.1)


@pytest.mark.parametrize(
    ("workers", "named", "who", "names"),
    [
        (1, ["tcp://a:1"], "1 worker", " (tcp://a:1)"),
        (3, ["tcp://a:1", "tcp://b:1"], "3 workers", " (tcp://a:1, tcp://b:1, 1 more)"),
        (2, [], "2 workers", ""),
        (0, [], "the scheduler", ""),
    ],
)
def test_it_is_said_whose_logs_are_missing(workers: int, named: list[str], who: str, names: str) -> None:
    said = begun().missing_logs(workers, named, 1061.0)
    assert said.startswith(f"not all have come: {who} still had some to send 1 min 1 s after the end, ")
    assert said.endswith(f"given up{names}")
