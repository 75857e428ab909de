"""From spool files of worker processes to the driver's logs, in pieces.

A worker process writes to files on its node, so that nothing is lost when it is killed, also what its own children
print; the supervisor ships what is new about once a second, and frees what was shipped. Before a piece is sent a note
beside the file says so: who finds the files of a supervisor that was killed goes on where it was.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["SpoolFile", "tail_of", "without_middle"]

PIECE_BYTES = 1 << 20
BACKLOG_BYTES = 32 << 20
"""More than this unshipped is a flood: its middle is left out, with a line that says how much."""

HEAD_BYTES = 1 << 20
TAIL_BYTES = 4 << 20
_LINE_BYTES = 64 << 10
"""So far the end of a line is looked for where a flood is cut."""

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

    def next_piece(self, number: int = 0, until: int | None = None, *, ended: bool = False) -> dict[str, Any] | None:
        """What is new since the last piece, at most 1 MiB; None where nothing is.

        Parameters
        ----------
        number
            Of the call that sends it; noted beside the file.
        until
            Where the piece ended when it was sent before.
        ended
            Nobody appends any more.
        """
        try:
            with self.path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                begin = self.offset
                is_flood = size - begin > BACKLOG_BYTES if until is None else until - begin > PIECE_BYTES
                if is_flood:
                    end = tail_of(file.fileno(), size) if until is None else until
                    data, self.offset = without_middle(file.fileno(), begin, end), end
                else:
                    data = os.pread(file.fileno(), min(PIECE_BYTES, (until or size) - begin), begin)
                    if self.shared and (b"\n" in data or len(data) < PIECE_BYTES):  # else a line is longer than a piece
                        data = data[: data.rfind(b"\n") + 1]
                    self.offset = begin + len(data)
        except FileNotFoundError:
            return None
        if not data:
            return None
        self._note.write_bytes(b"%d %d %d" % (number, begin, self.offset))
        return {"stream": self.stream, "node": self.node, "process": self.process, "data": data}

    def resume(self) -> tuple[int, int]:
        """Take over from a supervisor that was killed: go back to the last piece that it sent, or was about to.

        Returns
        -------
        tuple of int
            The number of the call that sent it, 0 where nothing was sent, and where it ended.
        """
        try:
            number, begin, end = map(int, self._note.read_bytes().split())
        except (FileNotFoundError, ValueError):  # a note that was half written was never followed by a call
            return 0, 0
        self.offset = begin
        return number, end

    def go_on_at(self, end: int) -> None:
        """What lies before ``end`` has come."""
        self.offset = end

    def remove(self) -> None:
        """All of it was shipped, and nobody appends any more."""
        for path in (self.path, self._note):
            path.unlink(missing_ok=True)

    def free_shipped(self) -> None:
        """Give the disk space of shipped bytes back; offsets stay as they are."""
        with contextlib.suppress(OSError):
            descriptor = os.open(self.path, os.O_WRONLY)
            try:
                _libc.fallocate(descriptor, _PUNCH_HOLE_KEEP_SIZE, ctypes.c_long(0), ctypes.c_long(self.offset))
            finally:
                os.close(descriptor)

    @property
    def _note(self) -> Path:
        return self.path.with_name(f".{self.path.name}.shipped")


def tail_of(file: int, size: int) -> int:
    """Where the tail of a flood begins, at the start of a line."""
    tail = size - TAIL_BYTES
    return tail + os.pread(file, _LINE_BYTES, tail).find(b"\n") + 1


def without_middle(file: int, begin: int, tail: int) -> bytes:
    """The head of a flood, to the end of a line, and a line that says how much is left out before its tail."""
    head = os.pread(file, HEAD_BYTES, begin)
    head = head[: head.rfind(b"\n", len(head) - _LINE_BYTES) + 1] or head
    newline = b"" if head.endswith(b"\n") else b"\n"
    return head + newline + b"[prs_dask: %d bytes left out here]\n" % (tail - begin - len(head))
