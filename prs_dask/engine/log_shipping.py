"""From spool files of worker processes to the driver's logs, in pieces.

A worker process writes to files on its node, so that nothing is lost when it is killed, also what its own children
print; the supervisor ships what is new about once a second, and frees what was shipped. Before a piece is sent a note
beside the file says so (`prs_dask.engine.sent_notes`): who finds the files of a supervisor that was killed goes on
where it was.

The files are what descriptors 1 and 2 lead to, so any child may empty them: `echo ... > /dev/stderr` does. A file that
does not hold any more what was shipped of it, or the zeros that freeing has left there, was emptied, and is shipped
from its beginning again.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from prs_dask.engine.sent_notes import read_note, write_note
from prs_dask.logs.text import process_name, utc_text

__all__ = ["SpoolFile", "tail_of", "told_line", "without_middle"]

PIECE_BYTES = 1 << 20
BACKLOG_BYTES = 32 << 20
"""More than this unshipped is a flood: its middle is left out, with a line that says how much."""

HEAD_BYTES = 1 << 20
TAIL_BYTES = 4 << 20
_LINE_BYTES = 64 << 10
"""So far the end of a line is looked for where a flood is cut."""

_MARK_BYTES = 16
"""So much of what was shipped last is looked at again, to see whether the file was emptied since."""

_EMPTIED = "a program has emptied this file: what came just before may be missing (>> /dev/stderr adds, > does not)"

_PUNCH_HOLE_KEEP_SIZE = 0x03
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(slots=True)
class SpoolFile:
    """One file that a worker process appends to.

    Parameters
    ----------
    path
        Where it is; it may not exist yet.
    stream
        ``"stdout"``, ``"stderr"``, ``"log"`` or ``"metrics"``.
    node, process
        Whose it is.
    shared
        Many processes' lines go to one file of the logs: pieces end where lines do.
    as_json
        Its lines are JSON objects: so is the line that says what is left out.

    Attributes
    ----------
    offset
        What lies before it was shipped, or left out.
    """

    path: Path
    stream: str
    node: int
    process: int
    offset: int = 0
    shared: bool = False
    as_json: bool = False
    at_end: ClassVar[bool] = False
    _begin: int = 0
    _mark: bytes = b""  # what lies just before offset
    _in_line: bool = False  # the last piece ended there
    _emptied_told: bool = False

    def next_piece(self, until: int | None = None, *, ended: bool = False) -> dict[str, Any] | None:
        """What is new since the last piece, at most 1 MiB; None where nothing is.

        Parameters
        ----------
        until
            Where the piece ended when it was sent before.
        ended
            Nobody appends any more.
        """
        try:
            with self.path.open("rb") as file:
                data = self._next(file.fileno(), until)
        except FileNotFoundError:
            return None
        if not data:
            return None
        return {"stream": self.stream, "node": self.node, "process": self.process, "data": data}

    def _next(self, file: int, until: int | None) -> bytes:
        size = os.fstat(file).st_size
        if until is None and self._was_emptied(file, size):
            self.offset, self._mark = _first_byte(file), b""
            if not self._emptied_told:
                self._emptied_told, self._begin = True, self.offset
                return b"\n" * self._in_line + self._told(_EMPTIED)
        begin = self.offset
        is_flood = size - begin > BACKLOG_BYTES if until is None else until - begin > PIECE_BYTES
        if is_flood:
            end = tail_of(file, size) if until is None else until
            data, self.offset = without_middle(file, begin, end, self._told), end
        else:
            data = os.pread(file, min(PIECE_BYTES, (until or size) - begin), begin)
            if self.shared and (b"\n" in data or len(data) < PIECE_BYTES):  # else a line is longer than a piece
                data = data[: data.rfind(b"\n") + 1]
            self.offset = begin + len(data)
        if data:
            self._begin, self._mark, self._in_line = begin, _mark(file, self.offset), not data.endswith(b"\n")
        return data

    def _was_emptied(self, file: int, size: int) -> bool:
        return size < self.offset or os.pread(file, len(self._mark), self.offset - len(self._mark)) != self._mark

    def _told(self, text: str) -> bytes:
        return told_line(text, self.node, self.process, as_json=self.as_json)

    def note_call(self, number: int) -> None:
        """The last piece is about to be sent, by the call of this number."""
        write_note(self._noted_at, number, self._begin, self.offset, self._mark.hex() or "-")

    def resume(self) -> tuple[int, int]:
        """Take over from a supervisor that was killed: go back to the last piece that it sent, or was about to.

        Returns
        -------
        tuple of int
            The number of the call that sent it, 0 where nothing was sent; and where it ended, 0 where the file was
            emptied since.
        """
        try:
            *numbers, mark = read_note(self._noted_at)
            number, begin, end = map(int, numbers)
        except ValueError:
            return 0, 0
        with contextlib.suppress(OSError), self.path.open("rb") as file:
            if _mark(file.fileno(), end).hex() not in (mark, "0" * len(mark)):
                self.offset = _first_byte(file.fileno())
                return number, 0
        self.offset = begin
        return number, end

    def go_on_at(self, end: int) -> None:
        """What lies before ``end`` has come."""
        self.offset, self._mark = end, b""

    def remove(self) -> None:
        """All of it was shipped, and nobody appends any more."""
        with contextlib.suppress(OSError):  # while the file is there, its note says that it was sent
            for path in (self.path, self._noted_at):
                path.unlink(missing_ok=True)

    def free_shipped(self) -> None:
        """Give the disk space of shipped bytes back; offsets stay as they are."""
        with contextlib.suppress(OSError), self.path.open("r+b") as file:
            if self._was_emptied(file.fileno(), os.fstat(file.fileno()).st_size):
                return
            zeros = bytes(len(self._mark))
            if _libc.fallocate(file.fileno(), _PUNCH_HOLE_KEEP_SIZE, ctypes.c_long(0), ctypes.c_long(self.offset)):
                os.pwrite(file.fileno(), zeros, self.offset - len(zeros))  # the file system cannot free, but marks
            self._mark = zeros

    @property
    def _noted_at(self) -> Path:
        return self.path.with_name(f".{self.path.name}.shipped")


def _mark(file: int, end: int) -> bytes:
    size = min(_MARK_BYTES, end)
    return os.pread(file, size, end - size)


def _first_byte(file: int) -> int:
    """Behind the zeros at the beginning: there are some where a writer goes on at its place in a file that another one
    has emptied."""
    begin = 0
    with contextlib.suppress(OSError):  # there is nothing but zeros, or the file system does not tell
        begin = os.lseek(file, 0, os.SEEK_DATA)
    while (data := os.pread(file, _LINE_BYTES, begin)) and not data.strip(b"\0"):
        begin += len(data)
    return begin + len(data) - len(data.lstrip(b"\0"))


def tail_of(file: int, size: int) -> int:
    """Where the tail of a flood begins, at the start of a line."""
    tail = size - TAIL_BYTES
    return tail + os.pread(file, _LINE_BYTES, tail).find(b"\n") + 1


def told_line(text: str, node: int, process: int, *, as_json: bool) -> bytes:
    """What prs_dask itself says in a file of a process, as a line of its own."""
    if not as_json:
        return f"[prs_dask: {text}]\n".encode()
    about = {"time": utc_text(time.time()), "log": "prs_dask", "level": "WARNING", "message": text}
    return json.dumps({**about, "node": node, "process": process_name(process)}).encode("ascii") + b"\n"


def _as_text(text: str) -> bytes:
    return told_line(text, -1, -1, as_json=False)


def without_middle(file: int, begin: int, tail: int, told: Callable[[str], bytes] = _as_text) -> bytes:
    """The head of a flood, to the end of a line, and a line that says how much is left out before its tail."""
    head = os.pread(file, HEAD_BYTES, begin)
    head = head[: head.rfind(b"\n", len(head) - _LINE_BYTES) + 1] or head
    newline = b"" if head.endswith(b"\n") else b"\n"
    return head + newline + told(f"{tail - begin - len(head)} bytes left out here")
