"""A driver may be killed while it begins a step run's files: a resume begins them anew, as if that had not been."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
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

    def go_on(self, earlier: Earlier) -> RunFiles:
        """As a resume does."""
        state = earlier.inputs(self.step, self.step.config).state
        return RunFiles.go_on(
            earlier.folder, earlier.lock, earlier.record, self.preparation, earlier.journal, state, complete=False
        )

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
        beginnings.go_on(earlier).abandon(is_new=False)
        earlier.lock.release()
    assert beginnings.contents() == whole


def open_files() -> list[str]:
    """What this process has open, but for what the listing itself opens."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/self/fd/{name}"))
    return sorted(path for path in found if "/fd" not in path)


class Failing:
    """Makes the call of some number fail, of all those by which files are opened and written."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.left = 0
        for name in ("open", "write", "pwrite", "ftruncate", "fsync", "replace", "rename"):
            patch.setattr(os, name, self._counting(getattr(os, name)))

    def _counting(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(*arguments, **more)

        return call


@pytest.mark.parametrize("resumed", [False, True], ids=["begun", "resumed"])
def test_wherever_the_disk_fails_nothing_stays_open_and_the_next_driver_goes_on(
    beginnings: Beginnings, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, resumed: bool
) -> None:
    failures = 0
    for number in range(1, 100):
        beginnings.leave(whole if resumed else {})
        before = open_files()
        earlier = Earlier.read(beginnings.folder.path) if resumed else None
        lock = earlier.lock if earlier is not None else JournalLock.take(beginnings.folder.path)
        files = None
        with monkeypatch.context() as patch:
            failing = Failing(patch)
            failing.left = number
            with suppress(OSError, OutputError):
                if earlier is None:
                    files = RunFiles.begin(beginnings.folder, lock, beginnings.record, beginnings.preparation)
                else:
                    files = beginnings.go_on(earlier)
            reached = failing.left <= 0
        if files is not None:
            files.abandon(is_new=False)
        lock.release()
        assert open_files() == before, f"call {number}"
        failures += files is None
        if not reached:
            break
        if beginnings.folder.run_json.exists():
            again = Earlier.read(beginnings.folder.path)
            if again.journal.header is None:
                beginnings.begin(again.lock)
            else:
                beginnings.go_on(again).abandon(is_new=False)
                again.lock.release()
            assert beginnings.contents() == whole, f"call {number}"
    assert failures > 5
