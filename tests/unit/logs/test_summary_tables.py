"""What the attempts of each process and node come to."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from prs_dask.attempts.records import AttemptRecord, Category, pack
from prs_dask.logs import places
from prs_dask.logs.roll_up import RollUp
from prs_dask.logs.summary_tables import node_summary, process_summary
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
    rows = read(process_summary(roll_up))
    assert tuple(rows[0]) == places.PROCESS_SUMMARY_COLUMNS
    assert [(row["Node"], row["Process"], row["Attempts"]) for row in rows] == [
        ("0", "process003", "2"),
        ("1", "process000", "1"),
        ("0", "process004", "1"),
    ]
    assert list(rows[0].values())[2:] == [
        "2026-01-01T00:00:00.000Z", "2026-01-01T00:00:07.000Z", "2", "1", "0", "1", "10", "8", "2",
        "4.000", "1.000", "3.000",
    ]  # fmt: skip
    nodes = read(node_summary(roll_up))
    assert [(row["Node"], row["Processes"], row["Attempts"]) for row in nodes] == [
        ("", "0", "1"),
        ("0", "2", "3"),
        ("1", "1", "1"),
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
