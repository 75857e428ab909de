"""sys/master_role.txt: all that matters, and no flood."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from prs_dask.attempts.records import AttemptError, AttemptRecord, Category
from prs_dask.logs.lines import LineFormat
from prs_dask.logs.log_files import LogFiles
from prs_dask.logs.master_role import MOST_A_SECOND, MasterRole
from prs_dask.logs.process_events import ENDED, FAILED, READY, STARTED, ProcessEvent
from prs_dask.logs.summary import Progress

NOW = 1_767_225_600.0  # 2026-01-01T00:00:00Z
ERROR = AttemptError("ValueError", "bad \x1b[31m key=s3cret")


@pytest.fixture
def role(tmp_path: Path) -> MasterRole:
    return MasterRole(LogFiles(tmp_path), LineFormat(lambda text: text.replace("s3cret", "***")))


def lines(folder: Path) -> list[str]:
    return (folder / "sys/master_role.txt").read_text("utf-8").splitlines()


def failed(number: int, attempt: int = 1, final: int = 0) -> AttemptRecord:
    return AttemptRecord(number, attempt, Category.EXCEPTION, final, 5, 0, 0, NOW, 1.0, 0.1, 0.8, 0.5)


def progress(stage: str = "running", succeeded: int = 118) -> Progress:
    return Progress("Running", stage, 500, 480, succeeded, 2, 4, 20, 1200, 12.3, 31.0, 10.0)


def test_each_kind_of_news_has_its_line(role, tmp_path) -> None:
    role.note("worker tcp://x has come", NOW)
    role.process(ProcessEvent(NOW, 1, 7, STARTED, "10.0.0.7", 4711, why="with GPU 1"))
    role.process(ProcessEvent(NOW, 1, 7, READY, seconds=0.25))
    role.process(ProcessEvent(NOW, 1, 8, FAILED, why="ValueError: no model"))
    role.process(ProcessEvent(NOW, 1, 7, ENDED, why="it was killed by SIGSEGV"))
    role.attempt("7[3:5]", 1, 7, failed(7), ERROR)
    role.attempt(8, -1, -1, failed(8, 3, final=1), ERROR)
    when = "2026-01-01T00:00:00.000Z"
    assert lines(tmp_path) == [
        f"{when} worker tcp://x has come",
        f"{when} process007 of node 1 started: pid 4711 on 10.0.0.7, with GPU 1",
        f"{when} process007 of node 1 is ready; init() took 250 ms",
        f"{when} process008 of node 1 could not start: ValueError: no model",
        f"{when} process007 of node 1 ended: it was killed by SIGSEGV",
        "2026-01-01T00:00:01.000Z mini-batch 7[3:5] failed and goes on: attempt 1 on 1/process007, exception:"
        r" ValueError: bad \x1b[31m key=***",
        "2026-01-01T00:00:01.000Z mini-batch 8 failed for good: attempt 3, exception:"
        r" ValueError: bad \x1b[31m key=***",
    ]


def test_sums_come_every_ten_seconds_and_at_each_change_of_stage(role, tmp_path) -> None:
    role.attempt(7, 0, 0, failed(7), ERROR)
    for second in range(25):
        role.progress(progress(), NOW + second)
    role.progress(progress("finishing the output"), NOW + 25)
    told = [line for line in lines(tmp_path) if "created" in line]
    assert [line[17:19] for line in told] == ["00", "10", "20", "25"]
    assert told[0].endswith(
        "Running, running: 480 of 500 mini-batches created, 124 dispatched, 120 ended (118 succeeded, 2 failed),"
        " 1 failed attempts tried again; 1,200 items, 20 failed"
    )


def test_a_flood_has_so_many_lines_a_second_and_the_rest_is_counted(role, tmp_path) -> None:
    for second in range(3):
        role.tick(NOW + second)
        for number in range(10_000):
            role.attempt(number, 0, 0, failed(number), ERROR)
        role.note("a worker is gone", NOW + second)
    role.tell_left_out(NOW + 3)
    told = lines(tmp_path)
    assert sum("failed and goes on" in line for line in told) == 3 * MOST_A_SECOND
    assert sum("(9,800 more lines are left out here)" in line for line in told) == 3
    assert sum("a worker is gone" in line for line in told) == 3


def test_ticks_within_a_second_give_no_more_room(role, tmp_path) -> None:
    for tenth in range(10):
        role.tick(NOW + tenth / 10)
        for number in range(100):
            role.process(ProcessEvent(NOW, 0, number, STARTED))
    assert len(lines(tmp_path)) == MOST_A_SECOND


def test_lines_may_be_json(tmp_path) -> None:
    role = MasterRole(LogFiles(tmp_path), LineFormat(lambda text: text.replace("s3cret", "***"), as_json=True))
    role.note("worker tcp://x has come", NOW)
    role.process(ProcessEvent(NOW, 1, 7, STARTED, "10.0.0.7", 4711, why="with GPU 1"))
    role.attempt("7[3:5]", 1, 7, failed(7), ERROR)
    role.progress(progress(), NOW)
    note, process, attempt, sums = map(json.loads, lines(tmp_path))
    assert [one["event"] for one in (note, process, attempt, sums)] == ["note", "process", "attempt", "progress"]
    assert (process["what"], process["node"], process["process"], process["pid"]) == ("started", 1, 7, 4711)
    assert (attempt["mini_batch"], attempt["final"], attempt["category"]) == ("7[3:5]", False, "exception")
    assert "s3cret" not in str(attempt)
    assert (sums["succeeded"], sums["tried_again"]) == (118, 1)
