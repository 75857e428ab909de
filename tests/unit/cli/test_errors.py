"""What `prs-dask errors` tells of a run folder."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from prs_dask.attempts.records import AttemptError
from prs_dask.cli import main

from .run_folders import NOW, begun, committed, ended, failing

ERROR = AttemptError(
    "ValueError", "bad <b>\x1b[2J", '  File "/x/score.py", line 12, in run\n    return 1 / 0\n', "score.py:12 in run"
)


def told(folder: Path, *flags: str) -> str:
    result = CliRunner().invoke(main, ["errors", str(folder), *flags])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_each_distinct_error_is_shown_with_its_line_and_an_example(tmp_path: Path) -> None:
    tree = begun(tmp_path)
    failing(tree, ERROR._replace(type="KeyError", traceback=""), ERROR, ERROR)
    ended(tmp_path, tree, cause="too many")
    assert told(tmp_path).splitlines() == [
        "score, Failed: 3 errors, 2 distinct, most frequent first",
        "",
        "[2 x] ValueError at score.py:12 in run",
        "    12 | return 1 / 0",
        "    bad <b>\\x1b[2J",
        "    for example: shutdown()",
        f"    traceback: {tmp_path}/logs/user/error/0/process003.txt",
        "",
        "[1 x] KeyError at score.py:12 in run",
        "    bad <b>\\x1b[2J",
        "    for example: shutdown()",
        f"    traceback: {tmp_path}/logs/user/error/0/process003.txt",
    ]


def test_the_most_frequent_are_shown_unless_all_are_asked_for(tmp_path: Path) -> None:
    failing(begun(tmp_path), *(ERROR._replace(type=f"Error{number}") for number in range(13)))
    text = told(tmp_path)
    assert text.startswith("score, Killed: 13 errors, 13 distinct so far, most frequent first\n")
    assert text.count("[1 x]") == 10
    assert text.endswith(f"\n3 more: prs-dask errors --all {tmp_path}\n")
    assert told(tmp_path, "--all").count("[1 x]") == 13


def test_where_there_is_none_it_says_so(tmp_path: Path) -> None:
    tree = begun(tmp_path)
    assert told(tmp_path) == "score, Killed: no errors of the entry script so far\n"
    ended(tmp_path, tree, cause="no worker came")
    assert told(tmp_path) == (
        "score, Failed: no errors of the entry script\n\nwhy it has not completed: no worker came\n"
    )


def test_items_that_failed_without_an_error_are_told(tmp_path: Path) -> None:
    begun(tmp_path)
    committed(tmp_path, missing=2)
    text = told(tmp_path)
    assert "2 items failed without an error: run() returned fewer results than it was given items" in text


def test_faults_of_the_engine_are_pointed_at(tmp_path: Path) -> None:
    begun(tmp_path).engine_error("driver", "Traceback", NOW)
    assert f"faults of prs_dask itself: {tmp_path}/logs/sys/error/driver.txt" in told(tmp_path)


def test_programs_get_all_of_them_as_json(tmp_path: Path) -> None:
    failing(begun(tmp_path), *(ERROR._replace(type=f"Error{number}") for number in range(13)))
    found = json.loads(told(tmp_path, "--json"))
    assert (found["state"], found["total"], found["distinct"], len(found["errors"])) == ("Killed", 13, 13, 13)
    assert found["errors"][0]["source"] == "return 1 / 0"
    assert found["errors"][0]["log"] == str(tmp_path / "logs/user/error/0/process003.txt")


def test_what_is_no_run_folder_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["errors", str(tmp_path)])
    assert result.exit_code == 2
    assert "found a folder without run.json; allowed: the run folder of a step run" in result.stderr
