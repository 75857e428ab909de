"""The manifest: all mini-batches that were listed, in the order of their ids. What a resume replays.

``inputs.jsonl.gz`` beside the journal: gzip members, one for each batch of the listing, so that a torn end costs
the last one only. ``zcat inputs.jsonl.gz`` shows it all::

    {"format":1,"inputs":[…]}                       how each input is read; see `datasets.kept_reader`
    {"first":0,"at":1763757000.25}                  each member begins with the id of its first mini-batch
    ["files",0,"/data/a.png\n/data/b.png"]          a mini-batch a line, see `mini_batches.json_form`
    …
    {"first":1000,"complete":true}                  the listing has come to its end; more may follow on a resume

A mini-batch stands here before it is handed out, and is on disk (`ManifestWriter.sync`) before the journal says
anything of it. So whatever stands behind the last whole member was never committed, and is cut off. ``at`` is
the time at which a member was written (seconds since the epoch): its files were read later than that.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from prs_dask.errors import EngineError, Fault, OutputError
from prs_dask.mini_batches import MiniBatch
from prs_dask.mini_batches.json_form import to_line
from prs_dask.output.write_at import open_cut, write_at

__all__ = ["FORMAT", "ManifestState", "ManifestWriter", "Member", "read_manifest", "read_members"]

FORMAT = 1
"""Version of the lines; a manifest of a higher one is refused."""

_LEVEL = 1
"""Of compression: paths that follow each other are alike, so the lowest level leaves a twentieth already."""
_GZIP = 31
_CHUNK = 1 << 18


class Member(NamedTuple):
    """One batch of the listing.

    Parameters
    ----------
    first
        Id of the first of its mini-batches.
    at
        When it was written, in seconds since the epoch; 0 where it holds no mini-batch.
    lines
        Its mini-batches, as `from_line` takes them.
    complete
        Had the listing ended?
    """

    first: int
    at: float
    lines: Sequence[bytes]
    complete: bool


@dataclass(frozen=True, slots=True)
class ManifestState:
    """What a manifest holds, all members taken together.

    Parameters
    ----------
    header
        The fields of its first line.
    count
        How many mini-batches.
    complete
        Has the listing ended with the last of them?
    was_complete
        Had it ended before, perhaps with fewer?
    valid_bytes
        So much of the file is whole members; the rest is to be cut off.
    """

    header: Mapping[str, Any]
    count: int
    complete: bool
    was_complete: bool
    valid_bytes: int


class ManifestWriter:
    """Appends to the manifest; its memory does not grow.

    One thread lists and calls `append` and `end`, another one commits and calls `sync`. A write that fails cuts the
    file back to whole members, so that no torn one ever stands in its middle.

    Attributes
    ----------
    count
        Mini-batches that were written.
    """

    def __init__(self, path: Path, descriptor: int, length: int = 0, count: int = 0, complete: bool = False) -> None:
        self.path = path
        self.count = count
        self._descriptor = descriptor
        self._length = length
        self._complete = complete
        self._on_disk = count

    @classmethod
    def create(cls, path: Path, header: Mapping[str, Any]) -> ManifestWriter:
        """Start a manifest: its header is on disk when this returns.

        Parameters
        ----------
        path
            Where; it must not exist.
        header
            JSON values.

        Raises
        ------
        OutputError
            There is one already.
        """
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except FileExistsError:
            fault = Fault(str(path), "a manifest of an earlier step run", "none", "another run folder, or resume it")
            raise OutputError([fault]) from None
        writer = cls(path, descriptor)
        try:
            writer._write([json.dumps({"format": FORMAT, **header}, separators=(",", ":"))])
            os.fsync(descriptor)
        except BaseException:
            writer.close()
            path.unlink()
            raise
        return writer

    @classmethod
    def reopen(cls, path: Path, state: ManifestState) -> ManifestWriter:
        """Go on with a manifest that `read_manifest` has read: a torn end is cut off."""
        return cls(path, open_cut(path, state.valid_bytes), state.valid_bytes, state.count, state.complete)

    def append(self, first: int, mini_batches: Sequence[MiniBatch | None], at: float) -> None:
        """Write the mini-batches with the ids from ``first`` on, before any of them is handed out.

        Parameters
        ----------
        first, mini_batches
            Those that stand here already, on a resume, are passed over; they may be None.
        at
            Now, in seconds since the epoch.

        Raises
        ------
        OutputError
            The disk failed or is full. The manifest is as before.
        """
        if first > self.count:
            raise EngineError(f"mini-batch {first} was listed before {self.count}")
        new = [to_line(one) for one in mini_batches[self.count - first :] if one is not None]
        if new:
            self._write([json.dumps({"first": self.count, "at": round(at, 3)}), *new])
            self.count, self._complete = self.count + len(new), False

    def end(self) -> None:
        """The listing has come to its end; that is on disk when this returns, for the journal tells it next.

        Raises
        ------
        OutputError
            The disk failed or is full.
        """
        if not self._complete:
            self._write([json.dumps({"first": self.count, "complete": True})])
            self._sync()
            self._complete = True

    def sync(self, stop: int) -> None:
        """Have the mini-batches with ids below ``stop`` on disk. Usually they are, with those that were listed ahead.

        Raises
        ------
        OutputError
            The disk failed or is full.
        EngineError
            Not so many were listed.
        """
        if stop <= self._on_disk:
            return
        if stop > self.count:
            raise EngineError(f"mini-batch {stop - 1} ends, but {self.count} were listed")
        self._sync()

    def close(self) -> None:
        """Close the file; nothing is written."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _sync(self) -> None:
        written = self.count  # before the fsync: more may come meanwhile
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise _full(self.path, error) from error
        self._on_disk = written

    def _write(self, lines: Sequence[str]) -> None:
        packer = zlib.compressobj(_LEVEL, wbits=_GZIP)
        data = packer.compress("\n".join([*lines, ""]).encode("ascii")) + packer.flush()
        try:
            self._length = write_at(self._descriptor, data, self._length)
        except OSError as error:
            with contextlib.suppress(OSError):  # a resume does the same
                os.ftruncate(self._descriptor, self._length)
            raise _full(self.path, error) from error


def _full(path: Path, error: OSError) -> OutputError:
    return OutputError(
        [
            Fault(
                str(path),
                f"{error.strerror or error} (errno {error.errno})",
                "a disk with room that can be written",
                "free some room, then resume: nothing that is committed is lost",
            )
        ]
    )


def read_manifest(path: Path) -> ManifestState:
    """What a manifest holds in all; reads it once, in little memory.

    Raises
    ------
    OutputError
        There is none, its first line is not whole, or it is of a newer version.
    """
    header: Mapping[str, Any] | None = None
    count, complete, was_complete, valid_bytes = 0, False, False, 0
    for first, _, lines, stop in _parsed(path):
        valid_bytes = stop
        if header is None:
            header = first
            continue
        count, complete = first["first"] + len(lines), "complete" in first
        was_complete = was_complete or complete
    if header is None:
        fault = Fault(str(path), "no whole first line", "the manifest of a step run", "a new step run")
        raise OutputError([fault])
    return ManifestState(header, count, complete, was_complete, valid_bytes)


def read_members(path: Path) -> Iterator[Member]:
    """The members of a manifest, one at a time, without its first line and without a torn end."""
    for number, (first, at, lines, _) in enumerate(_parsed(path)):
        if number:
            yield Member(first["first"], at, lines, "complete" in first)


def _parsed(path: Path) -> Iterator[tuple[Mapping[str, Any], float, list[bytes], int]]:
    """First line, time, other lines and end of each member, as long as ids are without a gap."""
    count = 0
    for number, (text, stop) in enumerate(_unpacked(path)):
        line, *lines = text.splitlines()
        try:
            first = json.loads(line)
            if number == 0:
                if first["format"] != FORMAT:
                    fault = Fault(
                        f"{path}, format", repr(first["format"]), repr(FORMAT), "the version of prs_dask that wrote it"
                    )
                    raise OutputError([fault])
            elif first["first"] != count:
                return
            at = float(first.get("at", 0))
        except (ValueError, KeyError, TypeError, AttributeError):
            return
        count += len(lines)
        yield first, at, lines, stop


def _unpacked(path: Path) -> Iterator[tuple[bytes, int]]:
    """The text of each whole member, and where it ends; stops at the first that is not whole."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        fault = Fault(str(path), "no such file", "the manifest of a step run", "another run folder")
        raise OutputError([fault]) from None
    with file:
        data, stop = b"", 0
        while True:
            unpacker, text, taken = zlib.decompressobj(_GZIP), bytearray(), 0
            while not unpacker.eof:
                data = data or file.read(_CHUNK)
                if not data:
                    return
                try:
                    text += unpacker.decompress(data)
                except zlib.error:
                    return
                taken, data = taken + len(data) - len(unpacker.unused_data), unpacker.unused_data
            if not text:
                return
            stop += taken
            yield bytes(text), stop
