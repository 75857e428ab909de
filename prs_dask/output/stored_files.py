"""Files that scripts have stored on nodes without the output folder, on their way into it.

What an attempt has written comes in pieces before its outcome, and waits in a folder of its own. It takes its place
only when the attempt counts, and in an order that a driver may be killed in at any moment::

    pieces -> fsync -> ready-<length of the journal> -> journal line -> into the output folder

Whoever resumes finds what is ready: where the journal has become longer the line was written, and the files take their
places; where it has not, they go, and the mini-batches are run again.

Nothing is overwritten but by the process that has stored it: two that use one name for different content are told apart
by nobody. That ends the step run, and the message says which name.

    <output>/.prs-dask-<run id>/here-<random>      seen by workers that share the output folder: they write in place
                                coming/<number>/<offset>/<name>
                                ready-<journal>/<number>/<offset>/<name>
"""

from __future__ import annotations

import contextlib
import filecmp
import os
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prs_dask.errors import Fault, OutputError
from prs_dask.relative_names import relative_name

__all__ = ["FileKey", "StoredFiles"]

FileKey = tuple[int, int | str]
"""Mini-batch id, and a token that tells its attempts apart."""

_WITHOUT_JOURNAL = -1
_COPY_BYTES = 1 << 20


@dataclass(slots=True)
class _Attempt:
    """What has come of one attempt: where its files lie, by name, and which of them its process had stored before."""

    folder: Path
    whose: str
    paths: dict[str, Path] = field(default_factory=dict)
    again: set[str] = field(default_factory=set)


class StoredFiles:
    """The files of one step run; used by the thread that commits.

    Parameters
    ----------
    output
        The step's output folder.
    run_id
        The step run's.
    reserved
        Names in the output folder that are no script's.
    """

    def __init__(self, output: Path, run_id: str, reserved: Sequence[str] = ()) -> None:
        self.folder = output / f".prs-dask-{run_id}"
        self._output = output
        self._reserved = {*reserved, self.folder.name}
        self._attempts: dict[FileKey, _Attempt] = {}
        self._ready: Path | None = None
        self._number = 0
        self._token: Path | None = None

    def begin(self, journal_length: int) -> None:
        """Settle what an earlier driver has left, and put the mark there that workers look for.

        Parameters
        ----------
        journal_length
            Bytes of whole lines in it.

        Raises
        ------
        OutputError
            What is ready cannot take its place.
        """
        for ready in self.folder.glob("ready-*"):
            if int(ready.name.removeprefix("ready-")) < journal_length:
                try:
                    self._publish(ready)
                except OSError as error:
                    raise self._no_place(error) from error
        shutil.rmtree(self.folder, ignore_errors=True)
        token = self.folder / f"here-{uuid.uuid4().hex}"
        with contextlib.suppress(OSError):  # without it files are sent, and where none can be written that is told then
            self.folder.mkdir()
            token.touch()
            self._token = token

    @property
    def token(self) -> str:
        """Who sees this file shares the output folder; empty where there is none."""
        return "" if self._token is None else str(self._token)

    def __bool__(self) -> bool:
        """Has anything come that has not taken its place?"""
        return bool(self._attempts)

    def __contains__(self, key: FileKey) -> bool:
        return key in self._attempts

    def add(self, key: FileKey, whose: str, name: bytes, offset: int, data: bytes, *, first: bool, again: bool) -> None:
        """The next piece of a file.

        Parameters
        ----------
        key
            Whose attempt wrote it.
        whose
            In words: ``process001 of node 0``.
        name
            Below the output folder.
        offset
            Where in the file the attempt's bytes begin; 0: it is stored anew.
        first
            Of this file in this attempt.
        again
            The process has stored the file before.

        Raises
        ------
        OutputError
            The name leads out of the output folder, or belongs to the step run itself.
        OSError
            The disk fails or is full.
        """
        attempt = self._attempts.get(key)
        if attempt is None:
            self._number += 1
            attempt = self._attempts[key] = _Attempt(self.folder / "coming" / str(self._number), whose)
        text = self._checked(name, whose)
        path = attempt.folder / str(offset) / text
        if first:
            attempt.paths[text] = path
            if again:
                attempt.again.add(text)
            path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb" if first else "ab", buffering=0) as file:
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]

    def drop(self, key: FileKey) -> None:
        """Forget an attempt's files; none there is no error."""
        attempt = self._attempts.pop(key, None)
        if attempt is not None:
            shutil.rmtree(attempt.folder, ignore_errors=True)

    def prepare(self, keys: Sequence[FileKey], journal_length: int) -> None:
        """The files of these attempts are to take their places when the next line of the journal is on disk.

        Raises
        ------
        OutputError
            A name is taken by a file with other content.
        OSError
            The disk fails.
        """
        if not keys:
            return
        self._check_names(keys)
        self._ready = self.folder / f"ready-{journal_length}"
        self._ready.mkdir()
        for number, key in enumerate(keys):
            attempt = self._attempts.pop(key)
            for path in attempt.paths.values():
                _sync(path)
            attempt.folder.replace(self._ready / str(number))
        _sync(self._ready)
        _sync(self.folder)

    def take_back(self) -> None:
        """The line was not written: what was prepared goes."""
        if self._ready is not None:
            shutil.rmtree(self._ready, ignore_errors=True)
            self._ready = None

    def publish(self) -> None:
        """The line is on disk: what was prepared takes its place.

        Raises
        ------
        OSError
            It cannot: it stays where it is for a resume.
        """
        ready, self._ready = self._ready, None
        if ready is not None:
            self._publish(ready)

    def store(self, key: FileKey) -> None:
        """Files that belong to no mini-batch take their places: what a process stored when it ended."""
        if key in self:
            self.prepare([key], _WITHOUT_JOURNAL)
            self.publish()

    def close(self) -> None:
        """Remove what no attempt that counts has sent."""
        if self._token is not None:
            self._token.unlink(missing_ok=True)
        shutil.rmtree(self.folder / "coming", ignore_errors=True)
        with contextlib.suppress(OSError):  # what is ready waits for a resume
            self.folder.rmdir()

    def _checked(self, name: bytes, whose: str) -> str:
        try:
            text = relative_name(name)
        except ValueError as error:
            raise OutputError([Fault("output_dir", str(error), "names within it")]) from error
        if text.partition("/")[0] in self._reserved:
            fault = Fault("output_dir", f"{text!r}, stored by {whose}", "another name: this one is the step run's own")
            raise OutputError([fault])
        return text

    def _check_names(self, keys: Sequence[FileKey]) -> None:
        seen: dict[str, Path] = {}
        for key in keys:
            attempt = self._attempts[key]
            for text, path in attempt.paths.items():
                there = seen.get(text, self._output / text)
                if text not in attempt.again and os.path.lexists(there) and not _same(there, path):
                    raise self._taken(text, attempt.whose)
            seen |= attempt.paths

    def _taken(self, text: str, whose: str) -> OutputError:
        return OutputError(
            [
                Fault(
                    "output_dir",
                    f"{text!r}, stored by {whose}, while another process or an earlier job has stored a file of this"
                    f" name with other content in {self._output}",
                    "a name of its own for each process or mini-batch: nothing is overwritten",
                    'f"{EntryScript().node_id}-{EntryScript().agent_name}.csv", or mini_batch_context.minibatch_index',
                )
            ]
        )

    def _publish(self, ready: Path) -> None:
        for attempt in sorted(ready.iterdir(), key=lambda path: int(path.name)):
            for offset in sorted(attempt.iterdir(), key=lambda path: int(path.name)):
                for path in _files(offset):
                    target = self._output / path.relative_to(offset)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    if offset.name == "0":
                        path.replace(target)
                    else:
                        _append_at(target, int(offset.name), path)
                        path.unlink()
        shutil.rmtree(ready)

    def _no_place(self, error: OSError) -> OutputError:
        fault = Fault(str(error.filename or self._output), error.strerror or str(error), "a folder that can be written")
        return OutputError([fault])


def _files(folder: Path) -> list[Path]:
    return [Path(above, name) for above, _, names in os.walk(folder) for name in sorted(names)]


def _same(one: Path, other: Path) -> bool:
    try:
        return filecmp.cmp(one, other, shallow=False)
    except OSError:  # one of them is a folder, or is sent from an offset on
        return False


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _append_at(target: Path, offset: int, path: Path) -> None:
    """What was done before the driver was killed is done once more."""
    with target.open("r+b", buffering=0) as file:
        if file.seek(0, os.SEEK_END) < offset:
            raise OSError(None, f"it is shorter than when it was stored ({offset} bytes)", str(target))
        file.truncate(offset)
        file.seek(offset)
        with path.open("rb") as added:
            shutil.copyfileobj(added, file, _COPY_BYTES)
        os.fsync(file.fileno())
