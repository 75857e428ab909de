"""The newest lines of logs that grow, or were torn."""

from __future__ import annotations

from pathlib import Path

import pytest

from prs_dask.logs.places import PROGRESS_COLUMNS
from prs_dask.report.lately import Lately, last_lines, read_lately


def table(path: Path, *rows: tuple[float, int, int, object], end: str = "\n") -> Path:
    lines = [",".join(PROGRESS_COLUMNS)]
    lines += [
        f"2026-01-01T00:00:00.000Z,100,100,{done},{failed},{elapsed:.3f},{left}" for elapsed, done, failed, left in rows
    ]
    path.write_text("\n".join(lines) + end)
    return path


def test_the_speed_is_that_of_the_last_minute(tmp_path: Path) -> None:
    path = table(tmp_path / "p.csv", (0, 0, 0, ""), (100, 10, 0, 50), (130, 40, 1, 40), (160, 70, 1, "12.5"))
    assert read_lately(path) == Lately(61 / 60, 12.5)


def test_what_had_not_begun_does_not_count(tmp_path: Path) -> None:
    path = table(tmp_path / "p.csv", (0, 0, 0, ""), (30, 0, 0, ""), (40, 20, 0, ""))
    assert read_lately(path) == Lately(2.0, None)


def test_only_the_last_part_counts(tmp_path: Path) -> None:
    path = table(tmp_path / "p.csv", (100, 80, 0, ""), (0, 80, 0, ""), (10, 90, 0, 5))
    assert read_lately(path) == Lately(1.0, 5.0)


@pytest.mark.parametrize("rows", [(), ((5, 3, 0, ""),), ((1, 0, 0, ""), (9, 0, 0, ""))])
def test_without_two_rows_in_which_something_ended_nothing_is_known(
    rows: tuple[tuple[float, int, int, str], ...], tmp_path: Path
) -> None:
    assert read_lately(table(tmp_path / "p.csv", *rows)).rate is None


def test_torn_lines_and_missing_files_tell_nothing(tmp_path: Path) -> None:
    assert read_lately(tmp_path / "absent.csv") == Lately(None, None)
    path = table(tmp_path / "p.csv", (0, 1, 0, ""), (10, 11, 0, ""))
    with path.open("a") as file:
        file.write("2026-01-01T00:00:00.000Z,1\n2026-01-01T00:00:20.000Z,100,100,90,0,20.0")
    assert read_lately(path) == Lately(1.0, None)


def test_of_a_long_log_the_last_whole_lines_are_read(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text("".join(f"line {number}\n" for number in range(100_000)) + "torn")
    lines = last_lines(path)
    assert (lines[-1], len(lines) < 10_000) == ("line 99999", True)
    assert all(line.startswith("line ") for line in lines)
