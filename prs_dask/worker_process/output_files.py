"""Files that a script stores in its ``output_dir`` where that is no folder of the step's: they travel with the outcome.

What was written since the last attempt that succeeded is sent before the outcome of the next one that does, so a
mini-batch counts as succeeded only where its files have arrived. A file that has grown is sent from where it was left,
every other one whole. What a failed attempt has made is removed, but for files that are open or were there before:
nobody can tell what is to be undone in them.

A piece is a head, the name, and bytes::

    flags       FIRST: of this file in this attempt; AGAIN: this process has sent the file before
    offset      where in the file the bytes of this attempt begin; 0: it is sent whole
    name        its length in bytes, and behind the head itself
"""

from __future__ import annotations

import os
import stat
import struct
from collections import OrderedDict
from collections.abc import Generator, Iterator
from contextlib import suppress
from hashlib import blake2b
from time import monotonic, time_ns
from typing import NamedTuple

from prs_dask.worker_process.folder_watch import FolderWatch
from prs_dask.worker_process.frames import MAX_PIECE

__all__ = ["AGAIN", "FIRST", "FilePiece", "OutputFiles", "unpack_file_piece"]

FIRST, AGAIN = 1, 2
_HEAD = struct.Struct("<BQH")
COMPARED_BYTES = 1 << 20
"""A file that was sent so far is compared whole at each attempt; of a larger one that has grown its ends, and all when
the process ends: a mini-batch must not take the longer the more has been added to a file."""

STILL_HERE_SECONDS = 1.0
"""While files are looked at and compared a piece without bytes tells so often that it goes on."""

SETTLED_NS = 50_000_000
"""So old is the time of a change where a later one has another: the clocks of file systems tick every few ms."""

_END_BYTES = 1 << 12  # kept in memory, twice for each file that is remembered
MOST_REMEMBERED = 1000
"""Files of which it is known what was sent; another one is sent whole again when its size or times have changed."""


class FilePiece(NamedTuple):
    """See the module's docstring."""

    flags: int
    offset: int
    name: bytes
    data: bytes


def unpack_file_piece(payload: bytes) -> FilePiece:
    """A piece as it was packed."""
    flags, offset, length = _HEAD.unpack_from(payload)
    begin = _HEAD.size + length
    return FilePiece(flags, offset, bytes(payload[_HEAD.size : begin]), bytes(payload[begin:]))


class _Sent:
    """What was sent of a file so far; its digests tell whether that still stands there."""

    def __init__(self) -> None:
        self.size = 0
        self._all = blake2b(digest_size=16)
        self._first = self._last = b""

    def copy(self) -> _Sent:
        new = _Sent()
        new.size, new._all, new._first, new._last = self.size, self._all.copy(), self._first, self._last
        return new

    def add(self, data: bytes) -> None:
        self.size += len(data)
        self._all.update(data)
        self._first += data[: _END_BYTES - len(self._first)]
        self._last = (self._last + data[-_END_BYTES:])[-_END_BYTES:]

    def ends_stand_in(self, file: int) -> bool:
        last = os.pread(file, _END_BYTES, self.size - _END_BYTES)
        return os.pread(file, _END_BYTES, 0) == self._first and last == self._last

    def stands_in(self, file: int) -> Generator[bytes, None, bool]:
        digest = blake2b(digest_size=16)
        for at in range(0, self.size, MAX_PIECE):
            digest.update(os.pread(file, min(MAX_PIECE, self.size - at), at))
            yield b""
        return digest.digest() == self._all.digest()


class OutputFiles:
    """The output folder of one process.

    Parameters
    ----------
    folder
        It exists, and is the process' own.
    """

    def __init__(self, folder: str) -> None:
        self._folder = os.fsencode(folder)
        self._watch = FolderWatch(folder)
        self._dirty: set[bytes] = set()  # written to before the attempt, and not sent
        self._seen: set[bytes] = set()  # in it
        self._sent: OrderedDict[bytes, _Sent] = OrderedDict()  # by name, of the last ones
        self._looks: dict[int, int] = {}  # by hash of the name, of all that were sent: see `_look`
        self._new: OrderedDict[bytes, _Sent] = OrderedDict()  # the same two of this attempt
        self._new_looks: dict[int, int] = {}
        self._unreadable: set[bytes] = set()
        self._in_parts: set[bytes] = set()  # written to, and not compared whole since

    def pieces(self, *, last: bool = False) -> Iterator[bytes]:
        """What was written since the last attempt that succeeded; call `sent` when it has left.

        Parameters
        ----------
        last
            The process ends: what was only looked at in parts is compared whole.

        Raises
        ------
        OSError
            A file cannot be read. That fails this attempt and no other one, unless the file is changed again.
        """
        self._new, self._new_looks = OrderedDict(), {}
        self._seen = self._watch.changed()
        names = self._dirty | self._seen
        if last:
            names |= self._in_parts | _mapped(self._folder)
        told = monotonic()
        for name in sorted(names):
            try:
                for piece in self._pieces_of(name, exactly=last):
                    now = monotonic()
                    if piece or now - told >= STILL_HERE_SECONDS:
                        told = now
                        yield piece
            except (FileNotFoundError, NotADirectoryError):
                pass  # it was removed, or has another name by now
            except OSError:
                self._unreadable.add(name)
                raise

    def sent(self) -> None:
        """All pieces have left, and the attempt has succeeded."""
        for name in [name for name in self._sent if hash(name) in self._new_looks]:
            del self._sent[name]
        self._sent |= self._new
        while len(self._sent) > MOST_REMEMBERED:
            self._sent.popitem(last=False)
        self._looks |= self._new_looks
        self._dirty, self._seen = set(), set()
        self._new, self._new_looks = OrderedDict(), {}

    def attempt_begins(self) -> None:
        """What was written before, by ``init()`` or in the background, is not the attempt's."""
        self._dirty |= self._watch.changed()

    def failed(self) -> None:
        """The attempt has failed: what it has made is removed where that can be done."""
        changed = self._watch.changed() | self._seen
        new = {name for name in changed - self._dirty if hash(name) not in self._looks}
        self._dirty = (self._dirty | changed) - self._unreadable
        self._seen, self._unreadable = set(), set()
        if not new:
            return
        try:
            open_files = _open_files()
        except OSError:  # the limit of open files is reached: any of these may be
            return
        for name in new:
            path = os.path.join(self._folder, name)
            with suppress(OSError):
                status = os.lstat(path)
                if (status.st_dev, status.st_ino) not in open_files:
                    os.unlink(path)
                    self._dirty.discard(name)

    def _pieces_of(self, name: bytes, *, exactly: bool) -> Iterator[bytes]:
        """Empty ones while it is looked for what is to be sent; they count for nothing but time."""
        yield b""
        path, key, before = os.path.join(self._folder, name), hash(name), self._sent.get(name)
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode):
            return
        if not exactly and (before is None or before.size > COMPARED_BYTES) and self._is_as_sent(key, status):
            if before is not None:
                self._in_parts.add(name)
            return
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(file)  # before a byte is read: what is written meanwhile has another look
            size, look = status.st_size, _look(status)
            stands = False
            if before is not None and before.size <= size:
                by_ends = COMPARED_BYTES < before.size < size and not exactly
                stands = before.ends_stand_in(file) if by_ends else (yield from before.stands_in(file))
                (self._in_parts.add if by_ends and stands else self._in_parts.discard)(name)
            sent = before.copy() if before is not None and stands else _Sent()
            offset = sent.size
            if stands and offset == size:  # it was opened, and nothing was written
                self._looks[key] = look
                return
            flags = FIRST | (AGAIN if key in self._looks else 0)
            while True:
                data = os.pread(file, min(MAX_PIECE, size - sent.size), sent.size)
                sent.add(data)
                yield _HEAD.pack(flags, offset, len(name)) + name + data
                flags &= ~FIRST
                if not data or sent.size >= size:
                    break
            self._new[name], self._new_looks[key] = sent, look
            if len(self._new) > MOST_REMEMBERED:
                self._new.popitem(last=False)
        finally:
            os.close(file)

    def _is_as_sent(self, key: int, status: os.stat_result) -> bool:
        look = self._looks.get(key, 0)
        return look != 0 and look == _look(status)


def _look(status: os.stat_result) -> int:
    """What another one tells that the file has changed; 0: it was changed so late that nothing would tell."""
    changed = max(status.st_mtime_ns, status.st_ctime_ns)
    if time_ns() - changed < SETTLED_NS:
        return 0
    return hash((status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))


def _mapped(folder: bytes) -> set[bytes]:
    """Names of files below the folder that are mapped to be written: the kernel tells nothing of that."""
    found = set()
    above = os.path.join(os.path.realpath(folder), b"")
    with suppress(OSError), open("/proc/self/maps", "rb") as maps:
        for line in maps:
            fields = line.rstrip(b"\n").split(maxsplit=5)
            if len(fields) == 6 and fields[1].startswith(b"rw") and fields[1].endswith(b"s"):
                path = fields[5].replace(b"\\012", b"\n")
                if path.startswith(above):
                    found.add(path.removeprefix(above))
    return found


def _open_files() -> set[tuple[int, int]]:
    """Device and inode of every file that this process has open."""
    found = set()
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            status = os.stat(f"/proc/self/fd/{descriptor}")
            found.add((status.st_dev, status.st_ino))
    return found
