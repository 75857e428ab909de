"""What the attempts of each process and node come to."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from prs_dask.attempts.records import AttemptRecord, Category, pack
from prs_dask.logs import places
from prs_dask.logs.process_events import ENDED, FAILED, READY, STARTED, ProcessEvent
from prs_dask.logs.process_lives import BROKEN_OFF, ProcessLives
from prs_dask.logs.roll_up import RollUp
from prs_dask.logs.summary_tables import ProcessSummary, node_summary
from prs_dask.logs.tree import LogTree

NOW = 1_767_225_600.0  # 2026-01-01T00:00:00Z


def attempt(number: int, category: int = 0, final: int = 1, started: float = NOW) -> AttemptRecord:
    return AttemptRecord(number, 1, category, final, 10, 8, 0, started, 2.0, 0.25, 1.5, 0.5)


def read(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode(), newline="")))


def test_processes_and_nodes_have_their_sums() -> None:
    roll_up = RollUp()
    roll_up.add(0, 3, pack([attempt(0), attempt(1, Category.EXCEPTION, final=0, started=NOW + 5)]))
    roll_up.add(1, 0, pack([attempt(1, Category.EXCEPTION)]))
    roll_up.add(0, 4, pack([attempt(2)]))
    roll_up.add(-1, -1, pack([attempt(9, Category.WORKER_LOST, final=0)]))
    lives = ProcessLives()
    lives.add(ProcessEvent(NOW - 3, 0, 3, STARTED, "10.0.0.1", 77))
    lives.add(ProcessEvent(NOW - 3, 0, 9, STARTED, "10.0.0.1", 78))
    lives.add(ProcessEvent(NOW - 1, 0, 3, READY, seconds=0.5))
    lives.add(ProcessEvent(NOW - 1, 0, 9, FAILED, why="ValueError: no, none"))
    lives.add(ProcessEvent(NOW + 9, 0, 3, ENDED, why="it left with exit code 3"))
    rows = read(ProcessSummary()(roll_up, lives))
    assert tuple(rows[0]) == places.PROCESS_SUMMARY_COLUMNS
    assert [(row["Node"], row["Process"], row["Attempts"]) for row in rows] == [
        ("0", "process003", "2"),
        ("0", "process009", "0"),
        ("1", "process000", "1"),
        ("0", "process004", "1"),
    ]
    assert list(rows[0].values())[2:] == [
        "10.0.0.1", "77", "2025-12-31T23:59:57.000Z", "2025-12-31T23:59:59.000Z", "0.500",
        "2026-01-01T00:00:09.000Z", "it left with exit code 3",
        "2026-01-01T00:00:00.000Z", "2026-01-01T00:00:07.000Z", "2", "1", "0", "1", "10", "8", "2",
        "4.000", "1.000", "3.000",
    ]  # fmt: skip
    assert [rows[1][name] for name in ("Ready Time", "End Reason", "First Start Time")] == [
        "",
        "ValueError: no, none",
        "",
    ]
    nodes = read(node_summary(roll_up, lives))
    assert tuple(nodes[0]) == places.NODE_SUMMARY_COLUMNS
    columns = ("Node", "Processes", "Failed Starts", "Start Seconds", "Init Seconds", "Attempts")
    assert [tuple(row[name] for name in columns) for row in nodes] == [
        ("", "0", "0", "0.000", "0.000", "1"),
        ("0", "2", "1", "2.000", "0.500", "3"),
        ("1", "1", "0", "0.000", "0.000", "1"),
    ]


def test_they_are_current_and_a_resume_goes_on_with_them(tmp_path: Path) -> None:
    def rows() -> list[dict[str, str]]:
        return read((tmp_path / "logs" / places.PROCESS_SUMMARY).read_bytes())

    tree = LogTree(tmp_path / "logs")
    tree.add_attempts(0, 1, pack([attempt(number) for number in range(2500)]))
    tree.add_attempts(0, 2, pack([attempt(2500)]))
    tree.tick(NOW)
    before = rows()
    assert [row["Attempts"] for row in before] == ["2500", "1"]
    after = LogTree(tmp_path / "logs")
    after.resumed("resumed", NOW + 10, failed_again=True)
    after.add_attempts(0, 2, pack([attempt(2501)]))
    after.tick(NOW + 11)
    assert [row["Attempts"] for row in rows()] == ["2500", "2"]
    assert rows()[0] == before[0]


def test_processes_of_all_parts_of_a_step_run_are_told_once(tmp_path: Path) -> None:
    def rows() -> dict[str, dict[str, str]]:
        return {row["Process"]: row for row in read((tmp_path / "logs" / places.PROCESS_SUMMARY).read_bytes())}

    tree = LogTree(tmp_path / "logs")
    first = [ProcessEvent(NOW, 0, number, STARTED, "10.0.0.1", 70 + number) for number in range(3)]
    first.append(ProcessEvent(NOW + 1, 0, 0, ENDED, why="it was killed by SIGSEGV"))
    for event in (*first, *first):
        tree.add_process_event(event)
    tree.tick(NOW)
    before = rows()
    events = tmp_path / "logs/sys/node/0/processes.csv"
    events.write_bytes(events.read_bytes() + b"2026-01-01T00:00:05.000Z,process00")  # the driver was killed here
    after = LogTree(tmp_path / "logs")
    after.resumed("resumed", NOW + 10, failed_again=True)
    for event in (*first, ProcessEvent(NOW + 11, 0, 3, STARTED, "10.0.0.1", 73)):
        after.add_process_event(event)
    after.tick(NOW + 12)
    assert list(rows()) == ["process000", "process001", "process002", "process003"]
    assert rows()["process000"] == before["process000"]
    assert rows()["process001"] == before["process001"] | {"End Reason": BROKEN_OFF}
    assert rows()["process003"]["End Reason"] == ""
    assert [row["Process"] for row in read(events.read_bytes())] == [
        "process000", "process001", "process002", "process000", "process003",
    ]  # fmt: skip
    master = (tmp_path / "logs" / places.MASTER_ROLE).read_text()
    assert master.count("started: pid") == 4


def test_what_had_failed_for_good_and_is_tried_again_by_a_resume_counts_once(tmp_path: Path) -> None:
    failed = int(Category.EXCEPTION)

    def part(*attempts: AttemptRecord, failed_again: bool | None = None) -> tuple[int, ...]:
        tree = LogTree(tmp_path / "logs")
        if failed_again is not None:
            tree.resumed("resumed", NOW, failed_again=failed_again)
        tree.add_attempts(0, 1, pack(attempts))
        tree.tick(NOW)
        [row] = read((tmp_path / "logs" / places.PROCESS_SUMMARY).read_bytes())
        columns = ("Attempts", "Succeeded Mini-batches", "Failed Mini-batches", "Failed Attempts Tried Again", "Items")
        return tuple(int(row[name]) for name in columns)

    assert part(attempt(0), attempt(1, failed), attempt(2, failed)) == (3, 1, 2, 0, 30)
    assert part(attempt(1), attempt(2, failed), failed_again=True) == (5, 2, 1, 2, 30)
    assert part(failed_again=False) == (5, 2, 1, 2, 30)
    assert part(failed_again=True) == (5, 2, 0, 3, 20)


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from((STARTED, READY, ENDED, "attempt", "ask"))), max_size=30))
def test_rows_that_are_kept_are_those_that_would_be_made_anew(happened: list[tuple[int, str]]) -> None:
    roll_up, lives, kept = RollUp(), ProcessLives(), ProcessSummary()
    for process, what in happened:
        if what == "attempt":
            roll_up.add(0, process, pack([attempt(1)]))
        elif what != "ask":
            lives.add(ProcessEvent(NOW, 0, process, what, why="why"))
        else:
            assert kept(roll_up, lives) == ProcessSummary()(roll_up, lives)
    assert kept(roll_up, lives) == ProcessSummary()(roll_up, lives)
