"""Where the rows of each mini-batch lie in the output file, for ``append_row_order="input"``.

Rows are appended as they come, and beside the journal stands one record for each mini-batch that
has rows, on disk before its journal line::

    mini-batch u64 · part u32 · offset u64 · length u64      28 bytes, big-endian

Big-endian records sort as bytes the way they sort as numbers, so the external sort at the end
(sorted runs of bounded size on disk, then a merge) never takes one apart.
"""

from __future__ import annotations

import heapq
import os
import struct
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, repeat
from pathlib import Path
from typing import IO, NamedTuple

from prs_dask.errors import EngineError, Fault, OutputError
from prs_dask.output.write_at import write_at

__all__ = ["RECORD_SIZE", "OrderFile", "Place"]

_RECORD = struct.Struct(">QIQQ")
RECORD_SIZE = _RECORD.size
_KEY_SIZE = 12
_READ = 4096 * RECORD_SIZE


class Place(NamedTuple):
    """Bytes ``offset <= byte < offset + length`` of the output are rows of this mini-batch.

    ``part`` tells the parts of a bisected mini-batch apart: the number of its first item; 0 for a whole one.
    """

    mini_batch: int
    part: int
    offset: int
    length: int


class OrderFile:
    """Records that are only appended to, and read in input order at the end.

    Parameters
    ----------
    path
        Where; sorted runs are written beside it without names of their own.
    count
        Records that the journal knows; what lies beyond is cut off.
    run_records
        So many records are sorted in memory at a time (some 25 MB).

    Raises
    ------
    OutputError
        The file holds fewer than ``count`` records.
    """

    def __init__(self, path: Path, count: int = 0, run_records: int = 1 << 18) -> None:
        self.path = path
        self.count = count
        self._run_records = run_records
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            found = os.fstat(self._descriptor).st_size // RECORD_SIZE
            if found < count:
                fault = Fault(str(path), f"{found} records", f"at least the {count} of the journal", "a new step run")
                raise OutputError([fault])
            self.truncate(count)
        except BaseException:
            self.close()
            raise

    @property
    def sorting_bytes(self) -> int:
        """Room on disk that sorting takes beside the file itself."""
        return self.count * RECORD_SIZE

    def append(
        self, ids: Sequence[int], offsets: Sequence[int], lengths: Sequence[int], parts: Iterable[int] = repeat(0)
    ) -> None:
        """Add records; those without rows are left out. On disk after `sync` only."""
        places = zip(ids, parts, offsets, lengths, strict=False)
        records = b"".join([_RECORD.pack(*place) for place in places if place[3]])
        write_at(self._descriptor, records, self.count * RECORD_SIZE)
        self.count += len(records) // RECORD_SIZE

    def sync(self) -> None:
        """Have everything on disk."""
        os.fsync(self._descriptor)

    def truncate(self, count: int) -> None:
        """Cut back to so many records."""
        os.ftruncate(self._descriptor, count * RECORD_SIZE)
        self.count = count

    def close(self) -> None:
        """Close the descriptor; nothing is written."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def is_in_order(self) -> bool:
        """Do the rows lie in input order already?"""
        last = b""
        for record in self._records():
            key = record[:_KEY_SIZE]
            if key <= last:
                return False
            last = key
        return True

    def sorted_places(self) -> Iterator[Place]:
        """All records in input order, in bounded memory.

        Raises
        ------
        EngineError
            A mini-batch stands there twice: its rows would too.
        """
        runs: list[IO[bytes]] = []
        try:
            records = self._records()
            while run := sorted(islice(records, self._run_records)):
                file: IO[bytes] = tempfile.TemporaryFile(dir=self.path.parent)  # noqa: SIM115 - closed below
                runs.append(file)
                for start in range(0, len(run), 4096):
                    file.write(b"".join(run[start : start + 4096]))
                file.seek(0)
            last = b""
            for record in heapq.merge(*map(_read_records, runs)):
                key = record[:_KEY_SIZE]
                if key == last:
                    mini_batch, part = _RECORD.unpack(record)[:2]
                    raise EngineError(f"mini-batch {mini_batch} (part {part}) was committed twice: {self.path}")
                last = key
                yield Place._make(_RECORD.unpack(record))
        finally:
            for file in runs:
                file.close()

    def _records(self) -> Iterator[bytes]:
        offset, end = 0, self.count * RECORD_SIZE
        while offset < end:
            data = os.pread(self._descriptor, min(_READ, end - offset), offset)
            if len(data) % RECORD_SIZE or not data:
                raise EngineError(f"{self.path} has become shorter while it was read")
            yield from _split(data)
            offset += len(data)


def _split(data: bytes) -> Iterable[bytes]:
    return [data[start : start + RECORD_SIZE] for start in range(0, len(data), RECORD_SIZE)]


def _read_records(file: IO[bytes]) -> Iterator[bytes]:
    while data := file.read(_READ):
        yield from _split(data)
