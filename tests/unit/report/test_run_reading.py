"""A run folder is read at whatever moment, and in whatever state it was left."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from prs_dask.attempts.records import AttemptError
from prs_dask.errors import SettingsError
from prs_dask.logs.run_folder import RunFolder
from prs_dask.logs.summary import StepSummary
from prs_dask.logs.tree import LogTree
from prs_dask.output.journal import Failure, JournalWriter, read_journal
from prs_dask.output.journal_lock import JournalLock
from prs_dask.report.run_reading import KILLED, RUNNING, RunReading, read_run

SUMMARY = StepSummary("Failed", 20, 7, 1, 80, 68, 12, 12, 68, 1.5, 2.5)
CREATED = 1_767_225_600.0


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """As a driver has it that has committed mini-batches 0 to 6, and 7 as failed."""
    folder = RunFolder(tmp_path)
    folder.logs.mkdir()
    settings = {"output_action": "append_row", "append_row_file_name": "rows.txt"}
    folder.write_record(
        {
            "name": "score",
            "created": "2026-01-01T00:00:00Z",
            "run_folder": str(tmp_path),
            "output": str(tmp_path / "output"),
            "settings": settings,
        }
    )
    journal = JournalWriter.create(folder.journal, run="r", created="now", fingerprint={}, plan={})
    journal.inputs(20, complete=True)
    counts = {"items": 70, "rows": 68, "failed_items": 2, "attempts": 12}
    failed = [Failure(7, 10, 3, "exception", "ValueError: bad")]
    journal.commit(output=9, finished="0-6", failed=failed, counts=counts)
    journal.close()
    return folder


def end(folder: RunFolder, state: str) -> None:
    journal = JournalWriter.reopen(folder.journal, read_journal(folder.journal))
    journal.end(state, "2026-01-01T00:00:20Z")
    journal.close()


def test_one_under_way_has_the_counts_of_its_journal(run: RunFolder) -> None:
    lock = JournalLock.take(run.path)
    lock.sign()
    reading = read_run(run.path, CREATED + 10)
    lock.release()
    assert (reading.state, reading.has_ended, reading.name) == (RUNNING, False, "score")
    assert reading.driver.startswith(f"process {os.getpid()} on ")
    assert reading.summary == StepSummary(RUNNING, 20, 7, 1, 80, 68, 12, 12, 68, 10.0, 10.0)
    assert reading.listed_all
    assert reading.resume == ""
    assert [failure.id for failure in reading.failures()] == [7]
    assert reading.gaps == ()


def test_one_that_was_killed_goes_on_with_a_command(run: RunFolder) -> None:
    for path in (*run.path.rglob("*"), run.logs):
        os.utime(path, (CREATED + 5, CREATED + 5))
    reading = read_run(run.path)
    assert (reading.state, reading.has_ended, reading.driver) == (KILLED, False, "")
    assert reading.resume == f"prs-dask resume {run.path}"
    assert reading.last_sign == CREATED + 5
    assert reading.summary.total_seconds == 5.0


def test_one_that_has_ended_has_what_its_driver_told(run: RunFolder) -> None:
    LogTree(run.logs).finish(SUMMARY, CREATED, cause="too many\nfailed", resume="x")
    end(run, "Failed")
    reading = read_run(run.path)
    assert (reading.state, reading.has_ended, reading.cause) == ("Failed", True, "too many\nfailed")
    assert reading.summary == SUMMARY
    assert reading.resume == f"prs-dask resume {run.path}"


def test_where_the_result_is_gone_or_torn_the_journal_tells(run: RunFolder) -> None:
    end(run, "Canceled")
    reading = read_run(run.path)
    assert (reading.state, reading.cause, reading.summary.total_seconds) == ("Canceled", "", 20.0)
    (run.logs / "job_result.json").write_text('{"summary": {"state')
    again = read_run(run.path)
    assert again.summary == reading.summary
    assert [gap.split(": ")[0] for gap in again.gaps] == [str(run.logs / "job_result.json")]


def test_the_result_of_an_earlier_part_is_not_that_of_the_last(run: RunFolder) -> None:
    LogTree(run.logs).finish(SUMMARY, CREATED, cause="too many")
    end(run, "Failed")
    journal = JournalWriter.reopen(run.journal, read_journal(run.journal))
    journal.resumed("2026-01-02T00:00:00Z", retry_failed=True)
    journal.commit(output=9, finished="7")
    journal.end("Completed", "2026-01-02T00:00:07Z")
    journal.close()
    reading = read_run(run.path)
    assert (reading.state, reading.cause, reading.resume) == ("Completed", "", "")
    assert (reading.summary.succeeded_mini_batches, reading.summary.total_seconds) == (8, 7.0)


def test_the_end_of_which_the_disk_left_no_line_in_the_journal_is_known(run: RunFolder) -> None:
    LogTree(run.logs).finish(SUMMARY, CREATED, cause="the disk is full")
    assert read_run(run.path).state == "Failed"


def test_errors_are_read_and_a_torn_file_of_them_is_a_gap(run: RunFolder) -> None:
    assert read_run(run.path).errors.total == 0
    tree = LogTree(run.logs)
    tree.add_process_error(0, 0, AttemptError("ValueError", "bad"), CREATED, "shutdown()")
    tree.tick(CREATED)
    assert [group.message for group in read_run(run.path).errors.most_frequent()] == ["bad"]
    (run.logs / "user/error.json").write_text("{")
    reading = read_run(run.path)
    assert (reading.errors.total, len(reading.gaps)) == (0, 1)


def test_one_that_was_killed_before_its_journal_is_read(run: RunFolder) -> None:
    run.journal.unlink()
    reading = read_run(run.path)
    assert (reading.state, reading.summary.mini_batches, reading.listed_all) == (KILLED, 0, False)
    assert list(reading.failures()) == []


def test_a_damaged_journal_is_a_gap(run: RunFolder) -> None:
    data = bytearray(run.journal.read_bytes())
    data[60] ^= 1
    run.journal.write_bytes(data)
    reading = read_run(run.path)
    assert "is damaged" in reading.gaps[0]
    assert list(reading.failures()) == []


def test_without_run_json_what_is_left_is_read(run: RunFolder) -> None:
    run.run_json.unlink()
    reading = read_run(run.path)
    assert reading.summary.succeeded_mini_batches == 7
    assert (reading.name, reading.resume, reading.output) == (run.path.name, "", None)
    assert "without run.json" in reading.gaps[0]


def test_the_output_is_found_under_either_name(run: RunFolder) -> None:
    assert read_run(run.path).output is None
    (run.path / "output").mkdir()
    (run.path / "output" / "rows.txt.partial").touch()
    assert read_run(run.path).output == run.path / "output" / "rows.txt.partial"
    (run.path / "output" / "rows.txt").touch()
    assert read_run(run.path).output == run.path / "output" / "rows.txt"


@pytest.mark.parametrize("record", [{}, {"settings": 3}, {"run_folder": 1, "created": "x", "name": None}])
def test_a_record_of_something_else_breaks_nothing(record: dict[str, object], run: RunFolder) -> None:
    run.run_json.write_text(json.dumps(record))
    reading = read_run(run.path)
    assert (reading.output, reading.resume, reading.begun) == (None, "", reading.last_sign)


def refusal(path: Path) -> str:
    with pytest.raises(SettingsError) as caught:
        read_run(path)
    return str(caught.value)


def test_a_folder_of_run_folders_is_told_with_the_newest(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").touch()
    os.utime(tmp_path / "one", (CREATED, CREATED))
    assert refusal(tmp_path).endswith(f"try: {tmp_path / 'two'}")


def test_what_is_no_run_folder_is_told_with_the_one_that_may_be_meant(run: RunFolder, tmp_path: Path) -> None:
    advice = f"; allowed: the run folder of a step run; try: {tmp_path}"
    assert refusal(tmp_path / "absent").endswith(f"found no such folder{advice}")
    assert refusal(run.logs).endswith(f"found a folder without run.json{advice}")
    assert refusal(run.run_json).endswith(f"found a file{advice}")


def test_reading_changes_nothing(run: RunFolder) -> None:
    JournalLock.take(run.path).release()

    def all_of_it() -> dict[Path, tuple[bytes, int]]:
        return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in run.path.rglob("*") if path.is_file()}

    before = all_of_it()
    assert isinstance(read_run(run.path), RunReading)
    assert all_of_it() == before
