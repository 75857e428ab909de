"""The table of progress has a row when one is due."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from prs_dask.logs.log_files import LogFiles
from prs_dask.logs.places import PROGRESS, PROGRESS_COLUMNS
from prs_dask.logs.progress_table import ProgressTable
from prs_dask.logs.summary import Progress

NOW = 1_767_225_600.0
PROGRESS_NOW = Progress(
    state="Running", stage="running", total=None, created=480, succeeded=118, failed=2, running=4, failed_items=20,
    items=1200, rate=12.34, seconds_left=None, elapsed=10.0,
)  # fmt: skip


@pytest.fixture
def rows(tmp_path: Path):
    files = LogFiles(tmp_path)

    def read() -> list[dict[str, str]]:
        with (tmp_path / PROGRESS).open(newline="") as file:
            return list(csv.DictReader(file))

    yield ProgressTable(files), read
    files.close()


def test_a_row_comes_every_ten_seconds_and_with_each_change(rows) -> None:
    table, read = rows
    for tenth in range(251):  # 25 s
        table.update(PROGRESS_NOW, NOW + tenth / 10)
    assert [row["Datetime"] for row in read()] == [f"2026-01-01T00:00:{second}.000Z" for second in ("00", "10", "20")]
    table.update(replace(PROGRESS_NOW, stage="finishing the output"), NOW + 25.1)
    assert len(read()) == 4


def test_what_nobody_knows_yet_is_empty(rows) -> None:
    table, read = rows
    table.update(PROGRESS_NOW, NOW)
    table.update(replace(PROGRESS_NOW, state="Completed", total=480, seconds_left=0.0, elapsed=12.5), NOW + 1)
    first, last = read()
    assert tuple(first) == PROGRESS_COLUMNS
    assert (first["Total Tasks"], first["Estimated Remaining Time"]) == ("", "")
    assert list(last.values())[1:] == ["480", "480", "118", "2", "12.500", "0.0"]
