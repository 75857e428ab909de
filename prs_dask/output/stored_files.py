"""Files that scripts have stored on nodes without the output folder, on their way into it.

What an attempt has written comes in pieces before its outcome, and waits in a folder of its own. It takes its place
only when the attempt counts, and in an order that a driver may be killed in at any moment::

    pieces -> fsync -> ready-<length of the journal> -> journal line -> into the output folder

All that can be known to stand in the way of a file is looked for before the line: behind it there is no way back.

Whoever resumes finds what is ready: where the journal has become longer the line was written, and the files take their
places; where it has not, they go, and the mini-batches are run again.

Nothing is overwritten but by the process that has stored it: two that use one name for different content are told apart
by nobody. That ends the step run, and the message says which name. Two may store the same, and then
neither goes on with it.

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
from typing import NamedTuple

from prs_dask.errors import Fault, OutputError
from prs_dask.output.on_disk import FileSystem, sync
from prs_dask.relative_names import relative_name

__all__ = ["FOLDER_PREFIX", "FileKey", "StoredFiles"]

FOLDER_PREFIX = ".prs-dask-"
"""Of the folder in which they wait; the step run's id follows."""

FileKey = tuple[int, int | str]
"""Mini-batch id, and a token that tells its attempts apart."""

_WITHOUT_JOURNAL = -1
_COPY_BYTES = 1 << 20


class _File(NamedTuple):
    """Where it lies, and where its bytes belong in the file of its name."""

    path: Path
    offset: int


@dataclass(slots=True)
class _Attempt:
    """What has come of one attempt: its files by name, and which of them its process had stored before."""

    folder: Path
    whose: str
    files: dict[str, _File] = field(default_factory=dict)
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
        self.folder = output / f"{FOLDER_PREFIX}{run_id}"
        self._output = output
        self._reserved = {*reserved, self.folder.name}
        self._attempts: dict[FileKey, _Attempt] = {}
        self._shared: set[str] = set()  # names of files that were there when somebody stored the same
        self._ready: Path | None = None
        self._number = 0
        self._token: Path | None = None
        self._file_system: FileSystem | None = None

    def begin(self, journal_length: int) -> None:
        """Settle what an earlier driver has left, and put the mark there that workers look for.

        Parameters
        ----------
        journal_length
            Bytes of whole lines in it.

        Raises
        ------
        OutputError
            What is ready cannot take its place, or what was never committed cannot be removed.
        """
        for ready in list(self.folder.glob("ready-*")):
            if int(ready.name.removeprefix("ready-")) < journal_length:
                try:
                    self._publish(ready)
                except OSError as error:
                    raise self._no_place(error, ready) from error
        shutil.rmtree(self.folder, ignore_errors=True)
        for ready in list(self.folder.glob("ready-*")):
            raise _stays(ready, "a folder that does not go")
        token = self.folder / f"here-{uuid.uuid4().hex}"
        with contextlib.suppress(OSError):  # without it files are sent, and where none can be written that is told then
            self.folder.mkdir(exist_ok=True)
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
            Of this file in this attempt. Another one of which the first has not come, or is forgotten, is left out.
        again
            The process has stored the file before.

        Raises
        ------
        OutputError
            The name leads out of the output folder, or belongs to the step run itself.
        OSError
            The disk fails or is full.
        """
        text = self._checked(name, whose)
        attempt = self._attempts.get(key)
        if not first and (attempt is None or text not in attempt.files):
            return
        if attempt is None:
            self._disk()
            self._number += 1
            attempt = self._attempts[key] = _Attempt(self.folder / "coming" / str(self._number), whose)
        path = attempt.folder / str(offset) / text
        if first:
            attempt.files[text] = _File(path, offset)
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

    def drop_all(self, token: str) -> None:
        """The same for all attempts with this token."""
        for key in [key for key in self._attempts if key[1] == token]:
            self.drop(key)

    def prepare(self, keys: Sequence[FileKey], journal_length: int) -> None:
        """The files of these attempts are to take their places when the next line of the journal is on disk.

        Raises
        ------
        OutputError
            A name is taken by a file with other content, or a folder, or what is to be added to has another length.
        OSError
            The disk fails. As with the other nothing is ready then.
        """
        if not keys:
            return
        self._check_names(keys)
        self._number += 1
        made = self.folder / "coming" / str(self._number)
        made.mkdir()
        attempts = [self._attempts.pop(key) for key in keys]
        self._disk().sync([file.path for attempt in attempts for file in attempt.files.values()])
        for number, attempt in enumerate(attempts):
            attempt.folder.replace(made / str(number))
        sync(made)
        self._ready = self.folder / f"ready-{journal_length}"
        made.replace(self._ready)
        sync(self.folder)

    def take_back(self) -> None:
        """The line was not written: what was prepared goes.

        Raises
        ------
        OutputError
            It cannot be taken back: a resume would publish it.
        """
        ready, self._ready = self._ready, None
        if ready is None:
            return
        try:
            gone = self._put_away(ready)
        except FileNotFoundError:
            return
        except OSError as error:
            raise _stays(ready, error.strerror or str(error)) from error
        shutil.rmtree(gone, ignore_errors=True)

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
        if self._file_system is not None:
            self._file_system.close()
            self._file_system = None
        if self._token is not None:
            self._token.unlink(missing_ok=True)
        shutil.rmtree(self.folder / "coming", ignore_errors=True)
        with contextlib.suppress(OSError):  # what is ready waits for a resume
            self.folder.rmdir()

    def _disk(self) -> FileSystem:
        """That of the output folder, at hand before the first byte is written: errors are told from then on."""
        if self._file_system is None:
            self._file_system = FileSystem(self._output)
        return self._file_system

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
        """Whatever stands in the way of a file's place, in the output or in this very commit."""
        seen: dict[str, _File] = {}
        folders: set[str] = set()
        for key in keys:
            attempt = self._attempts[key]
            for text, file in attempt.files.items():
                for above in _folders_of(text):
                    if above in folders:
                        continue
                    there = self._output / above
                    if above in seen or (os.path.lexists(there) and not there.is_dir()):
                        raise self._other_kind(text, attempt.whose, f"{above!r} is a file")
                    folders.add(above)
                if text in folders or (self._output / text).is_dir():
                    raise self._other_kind(text, attempt.whose, f"{text!r} is a folder")
                before = seen.get(text)
                if file.offset and text not in self._shared:
                    self._check_length(text, file, before, attempt.whose)
                elif text in self._shared or text not in attempt.again:
                    self._check_same(text, file, before, attempt.whose)
            seen |= attempt.files

    def _check_same(self, text: str, file: _File, before: _File | None, whose: str) -> None:
        """Is there nothing that somebody else has stored, or just what the file holds?"""
        there = before.path if before else self._output / text
        if file.offset or (before and before.offset):
            raise self._taken(text, whose)
        if os.path.lexists(there):
            if not _same(there, file.path):
                raise self._taken(text, whose)
            self._shared.add(text)

    def _check_length(self, text: str, file: _File, before: _File | None, whose: str) -> None:
        """Is there what the file's bytes are to be added to?"""
        try:
            length = before.offset + before.path.stat().st_size if before else (self._output / text).stat().st_size
        except FileNotFoundError:
            found = "is not there"
        else:
            if length == file.offset:
                return
            found = f"has {length} {'byte' if length == 1 else 'bytes'}"
        added = f"{text!r}, to which {whose} has added behind its first {file.offset} bytes, {found} in {self._output}"
        raise OutputError(
            [Fault("output_dir", added, "files that nobody else changes or removes while the step run goes on")]
        )

    def _other_kind(self, text: str, whose: str, found: str) -> OutputError:
        fault = Fault(
            "output_dir",
            f"{text!r}, stored by {whose}, while {found} in {self._output}, or is to be one",
            "a name that is a file of all, or a folder of all",
        )
        return OutputError([fault])

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
        added: dict[Path, list[Path]] = {}
        for attempt in sorted(ready.iterdir(), key=lambda path: int(path.name)):
            for offset in sorted(attempt.iterdir(), key=lambda path: int(path.name)):
                for path in _files(offset):
                    target = self._output / path.relative_to(offset)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    if offset.name != "0":
                        _append_at(target, int(offset.name), path)
                        added.setdefault(target, []).append(path)
                        continue
                    if target in added:  # who begins anew must not add to the file that comes now
                        self._disk().sync([target])
                        for done in added.pop(target):
                            done.unlink()
                    path.replace(target)
        self._disk().sync(list(added))
        shutil.rmtree(self._put_away(ready), ignore_errors=True)

    def _put_away(self, ready: Path) -> Path:
        """From here on it is nothing, whether or not all of it can be removed: half of it must never be begun anew."""
        gone = self.folder / "coming" / f"gone-{uuid.uuid4().hex}"
        gone.parent.mkdir(exist_ok=True)
        return ready.replace(gone)

    def _no_place(self, error: OSError, ready: Path) -> OutputError:
        fault = Fault(
            str(error.filename or self._output),
            f"{error.strerror or error}, while files of results that are committed take their places here",
            "an output folder that can be written, with all that was stored there",
            f"mend it and resume; or do without what waits in {ready}: take it from there, and remove that folder",
        )
        return OutputError([fault])


def _stays(ready: Path, found: str) -> OutputError:
    fault = Fault(
        str(ready),
        f"{found}: its files belong to no result that is committed, and would take their places with the next",
        "a folder that can be removed",
        "remove it before the step run is resumed",
    )
    return OutputError([fault])


def _folders_of(text: str) -> list[str]:
    """The folders that a name leads through, outermost first."""
    return [text[:place] for place, letter in enumerate(text) if letter == "/"]


def _files(folder: Path) -> list[Path]:
    return [Path(above, name) for above, _, names in os.walk(folder) for name in sorted(names)]


def _same(one: Path, other: Path) -> bool:
    try:
        return filecmp.cmp(one, other, shallow=False)
    except OSError:  # one of them is a folder, or is sent from an offset on
        return False


def _append_at(target: Path, offset: int, path: Path) -> None:
    """What was done before the driver was killed is done once more."""
    with target.open("r+b", buffering=0) as file:
        if file.seek(0, os.SEEK_END) < offset:
            raise OSError(None, f"it is shorter than when it was stored ({offset} bytes)", str(target))
        file.truncate(offset)
        file.seek(offset)
        with path.open("rb") as added:
            shutil.copyfileobj(added, file, _COPY_BYTES)
