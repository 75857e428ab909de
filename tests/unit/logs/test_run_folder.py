"""The run folder is made whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from prs_dask.errors import OutputError
from prs_dask.logs.run_folder import RunFolder

NOW = 1_767_225_600.0  # 2026-01-01


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_its_name_tells_step_and_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = RunFolder.create(None, "score", NOW, "ab12")
    assert folder.path == tmp_path / "prs_runs" / "score-20260101T000000Z-ab12"
    assert folder.path.is_absolute()
    assert folder.logs.is_dir()
    assert folder.output == folder.path / "output"
    assert not folder.output.exists()


def test_an_empty_folder_is_accepted(tmp_path: Path) -> None:
    assert RunFolder.create(tmp_path, "score", NOW, "x").logs.is_dir()


def test_a_folder_with_something_in_it_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / ".hidden").write_text("")
    with pytest.raises(OutputError, match=r"is not empty; allowed: .*; try: "):
        RunFolder.create(tmp_path, "score", NOW, "x")
    assert everything(tmp_path) == {".hidden"}


def test_a_path_that_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "run", tmp_path / "new" / ("x" * 300)):
        with pytest.raises(OutputError, match="run_folder: found .*cannot|run_folder: found .*; allowed: "):
            RunFolder.create(path, "score", NOW, "x")
    assert everything(tmp_path) == {"file"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="can be written"):
            RunFolder.create(tmp_path / "run", "score", NOW, "x")
    finally:
        tmp_path.chmod(0o700)


def test_a_discarded_one_leaves_what_was_there_before(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "a" / "b" / "run", tmp_path / "empty"):
        folder = RunFolder.create(path, "score", NOW, "x")
        folder.write_record({"a": 1})
        folder.write_source(b"zip")
        (folder.logs / "driver_log.txt").write_text("x")
        folder.discard()
    assert everything(tmp_path) == {"empty"}


def test_what_was_written_into_run_json_is_read(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", "score", NOW, "x")
    folder.write_record({"name": "score", "run_folder": "/x\udc80"})
    assert RunFolder.of(tmp_path / "run").read_record() == {"name": "score", "run_folder": "/x\udc80"}
    assert everything(folder.path) == {"logs", "run.json"}


def test_one_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="nothing, which is no folder"):
        RunFolder.of(tmp_path / "nothing")


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_a_folder_that_is_no_run_folder_is_named(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(OutputError, match=r"run\.json.*the run folder of a step run"):
        RunFolder(tmp_path).read_record()
