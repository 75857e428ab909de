"""What `prs-dask status` tells of a run folder, whatever its state."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from prs_dask.attempts.records import AttemptError
from prs_dask.cli import main
from prs_dask.output.journal_lock import JournalLock

from .run_folders import NOW, begun, committed, ended, failing

ERROR = AttemptError("ValueError", "bad \x1b[2J image", "", "score.py:12 in run")


def told(folder: Path, *flags: str, code: int = 0) -> str:
    result = CliRunner().invoke(main, ["status", str(folder), *flags])
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.stderr


def content(folder: Path) -> Any:
    return json.loads(told(folder, "--json"))


def test_one_that_failed_shows_cause_error_and_how_to_go_on(tmp_path: Path) -> None:
    tree = begun(tmp_path)
    committed(tmp_path)
    failing(tree, ERROR, ERROR, ERROR._replace(type="KeyError"))
    ended(tmp_path, tree, cause="12 failed items are too many\nmost frequent error ...")
    assert told(tmp_path).splitlines() == [
        "step run: score",
        f"folder:   {tmp_path}",
        "state:    Failed: 12 failed items are too many",
        "finished: 7 of 20 mini-batches succeeded, 1 failed, 12 not run",
        "items:    68 succeeded, 12 failed",
        "rows:     68",
        "time:     begun 2026-01-01T00:00:00Z, 2.5 s, 5.3/s mini-batches on average",
        "errors:   3 errors, 2 distinct; the first to look at:",
        "          [2 x] ValueError at score.py:12 in run",
        "            bad \\x1b[2J image",
        "            for example: shutdown()",
        f"            traceback: {tmp_path}/logs/user/error/0/process003.txt",
        f"          all of them: prs-dask errors {tmp_path}",
        f"resume:   prs-dask resume {tmp_path}",
    ]


def test_one_under_way_tells_who_drives_it_and_how_far_it_is(tmp_path: Path) -> None:
    tree = begun(tmp_path)
    committed(tmp_path)
    ended(tmp_path, tree)  # its first part
    (tmp_path / "logs" / "job_progress_overview.2027010100.txt").write_text(
        "".join(f"line {number}\n" for number in range(100_000))
    )
    (tmp_path / "logs/sys/metrics").mkdir(parents=True)
    (tmp_path / "logs/sys/metrics/progress.csv").write_text("x,20,20,1,0,1.0,\nx,20,20,21,0,11.0,31.0\n")
    lock = JournalLock.take(tmp_path)
    lock.sign()
    lines = told(tmp_path).splitlines()
    found = content(tmp_path)
    assert (found["progress"], found["rate"], found["seconds_left"]) == ("line 99999", 2.0, 31.0)
    lock.release()
    assert lines[2].startswith(f"state:    running; process {os.getpid()} on ")
    assert "finished: 7 of 20 mini-batches succeeded, 0 failed" in lines
    assert any(line.endswith(" so far, 2.0/s mini-batches lately, about 31.0 s left") for line in lines)
    assert lines[-6:] == ["", *(f"line {number}" for number in range(99_995, 100_000))]
    assert not any(line.startswith("resume:") for line in lines)


def test_items_that_failed_without_an_error_lead_to_the_table(tmp_path: Path) -> None:
    tree = begun(tmp_path)
    committed(tmp_path, missing=12)
    ended(tmp_path, tree, cause="12 are too many")
    text = told(tmp_path)
    assert "12 failed (12 of them without an error: run() returned too few results)" in text
    assert f"look at:  {tmp_path}/logs/sys/job_report/processed_mini-batches.csv" in text


def test_one_that_was_killed_tells_when_it_was_last_heard_of(tmp_path: Path) -> None:
    begun(tmp_path)
    committed(tmp_path)
    text = told(tmp_path)
    assert "state:    killed: its driver is gone without a word of how it ended; last sign of it " in text
    assert f"resume:   prs-dask resume {tmp_path}" in text
    assert text.endswith("no progress yet\n")


def test_one_that_has_completed_has_nothing_to_look_at(tmp_path: Path) -> None:
    tree = begun(tmp_path)
    ended(tmp_path, tree, "Completed")
    text = told(tmp_path)
    assert "state:    Completed\n" in text
    assert not any(word in text for word in ("look at", "resume:", "errors:"))


def test_without_an_error_of_the_script_the_log_to_open_is_named(tmp_path: Path) -> None:
    tree = begun(tmp_path)
    tree.driver("starting workers", NOW)
    ended(tmp_path, tree, cause="no worker")
    assert f"look at:  {tmp_path}/logs/driver_log.txt" in told(tmp_path)
    tree.engine_error("driver", "Traceback", NOW)
    assert f"look at:  {tmp_path}/logs/sys/error/driver.txt" in told(tmp_path)


def test_programs_get_all_of_it_as_json(tmp_path: Path) -> None:
    tree = begun(tmp_path)
    committed(tmp_path)
    failing(tree, ERROR)
    ended(tmp_path, tree, cause="why")
    found = content(tmp_path)
    assert (found["state"], found["cause"], found["driver"], found["listed_all"]) == ("Failed", "why", "", True)
    assert (found["summary"]["mini_batches"], found["summary"]["failed_items"]) == (20, 12)
    assert (found["begun"], round(found["rate"], 2), found["resumed"]) == (NOW, 5.33, 0)
    assert found["resume"] == f"prs-dask resume {tmp_path}"
    assert found["look_first"] == str(tmp_path / "logs/user/error.txt")
    (group,) = found["errors"]["most_frequent"]
    assert (group["type"], group["message"], group["log"]) == (
        "ValueError",
        "bad \x1b[2J image",
        str(tmp_path / "logs/user/error/0/process003.txt"),
    )


def test_what_could_not_be_read_is_told(tmp_path: Path) -> None:
    ended(tmp_path, begun(tmp_path))
    (tmp_path / "logs/job_result.json").write_text("{")
    result = CliRunner().invoke(main, ["status", str(tmp_path)])
    assert (result.exit_code, "state:    Failed" in result.stdout) == (0, True)
    assert f"not read: {tmp_path}/logs/job_result.json" in result.stderr


def test_a_folder_that_does_not_exist_is_told(tmp_path: Path) -> None:
    assert "no such folder; allowed: the run folder of a step run" in told(tmp_path / "absent", code=2)


def test_a_foreign_folder_is_told(tmp_path: Path) -> None:
    assert "found a folder without run.json" in told(tmp_path, code=2)


@pytest.mark.parametrize("content", ["", "{", "[" * 100_000, "\xff", "[1]", "3"])
def test_a_broken_run_json_is_told(content: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(content, encoding="latin-1")
    assert "found a run.json that" in told(tmp_path, code=2)
