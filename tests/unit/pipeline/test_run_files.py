"""A driver may be killed while it begins a step run's files: a resume begins them anew, as if that had not been."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from prs_dask import FileDataset, OutputError, ParallelRunConfig, ParallelRunStep
from prs_dask.logs.run_folder import RunFolder
from prs_dask.output.journal import JournalState, read_journal
from prs_dask.output.journal_lock import JournalLock
from prs_dask.pipeline.preparation import prepare
from prs_dask.pipeline.resume import Earlier
from prs_dask.pipeline.run_files import RunFiles
from prs_dask.pipeline.run_record import run_record

OWN = ("source.zip", "run.json", "inputs.jsonl.gz", "journal.jsonl")
OUTPUT = ("output/parallel_run_step.txt.partial", "output/parallel_run_step.txt.partial.owner")


class Beginnings:
    """The files of one step run, begun again and again in one folder."""

    def __init__(self, path: Path) -> None:
        (path / "items").mkdir()
        (path / "items" / "a").touch()
        (path / "score.py").write_text("def run(mini_batch):\n    return mini_batch\n")
        inputs = FileDataset.from_files(path / "items")
        config = ParallelRunConfig(entry_script=path / "score.py", output_action="append_row", error_threshold=0)
        self.step = step = ParallelRunStep("score", config, inputs)
        self.folder = RunFolder.create(path / "run", "score", 0.0, "1")
        self.preparation = prepare(step.config, step.options, step.inputs_of(config))
        self.record: dict[str, Any] = run_record(
            step,
            step.config,
            self.preparation,
            run_id="score-1",
            run_folder=self.folder.path,
            output_folder=self.folder.output,
            compute_target=None,
            salt=b"0123456789abcdef",
        )

    def begin(self, lock: JournalLock) -> None:
        files = RunFiles.begin(self.folder, lock, self.record, self.preparation)
        files.abandon(is_new=False)
        lock.release()

    def contents(self) -> dict[str, bytes]:
        path = self.folder.path
        return {name: (path / name).read_bytes() for name in (*OWN, *OUTPUT) if (path / name).exists()}

    def leave(self, contents: dict[str, bytes]) -> None:
        """The run folder as a kill leaves it."""
        for name in (*OWN, *OUTPUT):
            (self.folder.path / name).unlink(missing_ok=True)
        for name, content in contents.items():
            (self.folder.path / name).write_bytes(content)


@pytest.fixture
def beginnings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Beginnings:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # nothing crashes here
    return Beginnings(tmp_path)


@pytest.fixture
def whole(beginnings: Beginnings) -> dict[str, bytes]:
    """What stands there when all is begun."""
    beginnings.begin(JournalLock.take(beginnings.folder.path))
    contents = beginnings.contents()
    assert contents.keys() == {*OWN, *OUTPUT}
    return contents


def test_wherever_the_journals_first_line_is_torn_all_is_begun_anew(
    beginnings: Beginnings, whole: dict[str, bytes]
) -> None:
    line = whole["journal.jsonl"]
    assert line.count(b"\n") == 1
    for length in range(len(line)):
        (beginnings.folder.path / "journal.jsonl").write_bytes(line[:length])
        assert read_journal(beginnings.folder.journal) == JournalState()
    for length in (0, 1, len(line) // 2, len(line) - 1):
        beginnings.leave({**{name: whole[name] for name in OWN}, "journal.jsonl": line[:length]})
        earlier = Earlier.read(beginnings.folder.path)
        assert (earlier.journal.header, earlier.completed, earlier.counts.items) == (None, False, 0)
        beginnings.begin(earlier.lock)
        assert beginnings.contents() == whole


def test_wherever_the_manifest_is_torn_before_there_is_a_journal_all_is_begun_anew(
    beginnings: Beginnings, whole: dict[str, bytes]
) -> None:
    manifest = whole["inputs.jsonl.gz"]
    for length in (0, 1, len(manifest) // 2, len(manifest)):
        beginnings.leave({name: whole[name] for name in OWN[:2]} | {"inputs.jsonl.gz": manifest[:length]})
        earlier = Earlier.read(beginnings.folder.path)
        assert earlier.journal.header is None
        beginnings.begin(earlier.lock)
        assert beginnings.contents() == whole


@pytest.mark.parametrize(
    "place",
    [
        "logs.run_folder.RunFolder.write_source",
        "logs.run_folder.RunFolder.write_record",
        "output.manifest.ManifestWriter.create",
        "output.journal.JournalWriter.create",
        "output.append_file.AppendFile.create",
    ],
)
def test_whichever_file_a_kill_comes_before_the_folder_is_none_yet_or_is_resumed(
    beginnings: Beginnings, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: Any, **__: Any) -> None:
        raise Killed

    beginnings.leave({})
    with monkeypatch.context() as patch:
        patch.setattr(f"prs_dask.{place}", killed)
        lock = JournalLock.take(beginnings.folder.path)
        with pytest.raises(Killed):
            beginnings.begin(lock)
        lock.release()
    if not beginnings.folder.run_json.exists():
        with pytest.raises(OutputError, match=r"run\.json: No such file"):
            Earlier.read(beginnings.folder.path)
        return
    earlier = Earlier.read(beginnings.folder.path)
    earlier.refuse_changes(beginnings.record, beginnings.preparation.source)
    if earlier.journal.header is None:
        beginnings.begin(earlier.lock)
    else:
        step = beginnings.step
        listed = earlier.inputs(step, step.config).state
        RunFiles.go_on(
            earlier.folder,
            earlier.lock,
            earlier.record,
            beginnings.preparation,
            earlier.journal,
            listed,
            complete=False,
        ).abandon(is_new=False)
        earlier.lock.release()
    assert beginnings.contents() == whole
