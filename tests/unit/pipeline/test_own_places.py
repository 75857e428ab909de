"""What a step run makes itself is known before it is there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prs_dask import FileDataset, OutputFileDatasetConfig, ParallelRunConfig, ParallelRunStep
from prs_dask.output.append_file import AppendFile
from prs_dask.pipeline.own_places import own_places
from prs_dask.pipeline.source import SourceArchive, changed_files, pack_source


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ParallelRunStep]:
    """A step whose source directory is the current folder, with ``jobs/score.py`` and ``data/a.csv`` in it."""
    monkeypatch.chdir(tmp_path)
    for name in ("jobs/score.py", "data/a.csv"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("def run(mini_batch): return mini_batch\n")

    def make(output: Any = None, side_inputs: Any = (), arguments: Any = (), **settings: Any) -> ParallelRunStep:
        config = ParallelRunConfig(
            **{
                "entry_script": "jobs/score.py",
                "source_directory": ".",
                "output_action": "append_row",
                "error_threshold": 0,
                **settings,
            }
        )
        return ParallelRunStep("score", config, FileDataset.from_files("data"), output, side_inputs, arguments)

    return make


def packed(step: ParallelRunStep, run_folder: Path | None = None) -> SourceArchive:
    script = step.config.script_path
    assert script is not None
    return pack_source(script, Path.cwd(), own_places(step, run_folder))


def write(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(name)


def test_run_folder_and_output_are(made: Any, tmp_path: Path) -> None:
    assert own_places(made(), None) == []
    assert own_places(made("out"), Path("run")) == [str(tmp_path / "run"), str(tmp_path / "out")]


def test_links_of_side_inputs_and_outputs_among_the_arguments_are(made: Any, tmp_path: Path) -> None:
    labels = FileDataset.from_files("data/a.csv").as_mount(str(tmp_path / "labels"))
    arguments = [OutputFileDatasetConfig(destination="plots"), OutputFileDatasetConfig(), labels, "--rate", 1]
    assert own_places(made(None, [labels, "data"], arguments), None) == [
        str(tmp_path / "labels"),
        str(tmp_path / "labels"),
        str(tmp_path / "plots"),
    ]


@pytest.mark.parametrize("output", [".", "..", "jobs"])
def test_of_an_output_folder_with_the_entry_script_only_the_rows_are(made: Any, tmp_path: Path, output: str) -> None:
    step = made(output, append_row_file_name="rows.csv")
    before = packed(step)
    file = AppendFile.create(tmp_path / output, "rows.csv", str(tmp_path / "run"))
    try:
        write(f"{output}/.prs-dask-score-1/here-1", f"{output}/rows.csv.partial.ordered", "run/run.json")
        assert packed(step, tmp_path / "run") == before
        file.finish()
        assert packed(step, tmp_path / "run") == before
    finally:
        file.close()
    write("jobs/more.py")
    assert changed_files(before.data, packed(step, tmp_path / "run").data) == [("jobs/more.py", "added")]


def test_whatever_lies_there_nothing_of_it_is_source(made: Any, tmp_path: Path) -> None:
    labels = FileDataset.from_files("data/a.csv").as_mount(str(tmp_path / "models" / "labels"))
    step = made("out", [labels], [OutputFileDatasetConfig(destination="plots")])
    before = packed(step, Path("run"))
    write("out/parallel_run_step.txt.partial", "out/stored/by/script.bin", "plots/a.png", "run/run.json", "run/logs/a")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "labels").symlink_to("/etc/hostname")
    assert packed(step, Path("run")) == before
