from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from prs_dask.cli import main
from prs_dask.output.journal import JournalWriter
from prs_dask.output.journal_lock import JournalLock


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    (tmp_path / "logs").mkdir()
    (tmp_path / "run.json").write_text('{"name": "score"}')
    return tmp_path


def told(folder: Path, code: int = 0) -> str:
    result = CliRunner().invoke(main, ["status", str(folder)])
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.stderr


def test_an_ended_step_run_shows_its_result(run_folder: Path) -> None:
    (run_folder / "logs" / "job_result.txt").write_text("Failed\ncause: \x1b[2Jred\n")
    text = told(run_folder)
    assert "step run: score" in text
    assert text.endswith("Failed\ncause: \\x1b[2Jred\n")


def test_a_step_run_under_way_shows_its_last_lines_of_progress(run_folder: Path) -> None:
    (run_folder / "logs" / "job_progress_overview.2026010100.txt").write_text("older\n")
    newest = run_folder / "logs" / "job_progress_overview.2026010223.txt"
    newest.write_text("".join(f"line {number}\n" for number in range(100_000)))
    text = told(run_folder)
    assert "state:    its driver was killed" in text
    assert text.splitlines()[-5:] == [f"line {number}" for number in range(99_995, 100_000)]


def test_who_drives_it_is_told_and_an_older_result_is_not(run_folder: Path) -> None:
    (run_folder / "logs" / "job_result.txt").write_text("Failed\n")
    lock = JournalLock.take(run_folder)
    lock.sign()
    text = told(run_folder)
    assert f"state:    running; process {os.getpid()} on " in text
    assert "Failed" not in text
    lock.release()
    assert "Failed" in told(run_folder)


def test_one_that_was_killed_tells_what_is_finished_and_how_to_go_on(run_folder: Path) -> None:
    (run_folder / "run.json").write_text(f'{{"name": "score", "run_folder": "{run_folder}"}}')
    journal = JournalWriter.create(run_folder / "journal.jsonl", run="r", created="now", fingerprint={}, plan={})
    journal.commit(output=9, finished="0-1233", counts={"rows": 5000})
    journal.close()
    text = told(run_folder)
    assert "finished: 1,234 mini-batches succeeded, 0 failed, 5,000 rows" in text
    assert f"resume:   prs-dask resume {run_folder}" in text


def test_a_step_run_that_has_just_begun_has_no_progress(run_folder: Path) -> None:
    assert "no progress yet" in told(run_folder)


def test_a_folder_that_does_not_exist_is_told(tmp_path: Path) -> None:
    assert "no such folder; allowed: the run folder of a step run" in told(tmp_path / "absent", 2)


def test_a_foreign_folder_is_told(tmp_path: Path) -> None:
    assert "found a folder without run.json" in told(tmp_path, 2)


@pytest.mark.parametrize("content", ["", "{", "[" * 100_000, "\xff", "[1]", "3"])
def test_a_broken_run_json_is_told(content: str, run_folder: Path) -> None:
    (run_folder / "run.json").write_text(content, encoding="latin-1")
    assert "found a run.json that" in told(run_folder, 2)
