"""From spool files of worker processes to the driver's logs, in pieces.

A worker process writes to files on its node, so that nothing is lost when it is killed, also
what its own children print; the supervisor ships what is new about once a second, and frees what was shipped.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["SpoolFile"]

PIECE_BYTES = 1 << 20
BACKLOG_BYTES = 32 << 20
"""More than this unshipped is a flood: its middle is left out, with a line that says how much."""

TAIL_BYTES = 4 << 20
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
        ``"stdout"``, ``"stderr"`` or ``"log"``.
    node, process
        Whose it is.
    """

    path: Path
    stream: str
    node: int
    process: int
    offset: int = 0

    def next_piece(self) -> dict[str, Any] | None:
        """What is new since the last piece, at most 1 MiB; None where nothing is."""
        try:
            with self.path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                note = b""
                if size - self.offset > BACKLOG_BYTES:
                    skipped = size - TAIL_BYTES - self.offset
                    note = b"\n[prs_dask: %d bytes left out here]\n" % skipped
                    self.offset += skipped
                file.seek(self.offset)
                data = file.read(PIECE_BYTES)
        except FileNotFoundError:
            return None
        if not data:
            return None
        self.offset += len(data)
        return {"stream": self.stream, "node": self.node, "process": self.process, "data": note + data}

    def free_shipped(self) -> None:
        """Give the disk space of shipped bytes back; offsets stay as they are."""
        with contextlib.suppress(OSError):
            descriptor = os.open(self.path, os.O_WRONLY)
            try:
                _libc.fallocate(descriptor, _PUNCH_HOLE_KEEP_SIZE, ctypes.c_long(0), ctypes.c_long(self.offset))
            finally:
                os.close(descriptor)
