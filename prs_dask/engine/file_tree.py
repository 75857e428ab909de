"""A file, or all that is below a folder: as a list, and as one stream of bytes.

The driver lists a side input, and reads pieces of the stream, which is the content of its files one behind the other.
A worker writes them below its node's folder, and goes on where another one has been killed: what lies there is a
beginning of the stream, and its length says how much has come.

Links within the tree stay links. One that leads out of it, which is how caches of models lie on disk, is followed.
What is neither file, folder nor link is left out. Names are bytes: they need not be text.
"""

from __future__ import annotations

import json
import os
import stat
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

__all__ = ["Entry", "TreeReader", "TreeWriter", "is_same_tree", "list_tree", "pack_entries", "unpack_entries"]


class Entry(NamedTuple):
    """A file, folder or link.

    Parameters
    ----------
    kind
        ``"f"``, ``"d"`` or ``"l"``.
    name
        Relative to the tree; empty for the tree itself.
    mode, size, mtime, ctime, inode
        As `os.stat` tells them, times in ns; the size of a file only.
    link
        Where a link leads, relative to its own folder.
    """

    kind: str
    name: bytes
    mode: int
    size: int
    mtime: int
    ctime: int
    inode: int
    link: bytes = b""


def list_tree(root: str | os.PathLike[str]) -> list[Entry]:
    """All of it, folders before what they hold, sorted.

    Raises
    ------
    OSError
        It cannot be read.
    """
    top = os.fsencode(root)
    status = os.stat(top)
    if not stat.S_ISDIR(status.st_mode):
        return [_entry("f", b"", status)]
    return [_entry("d", b"", status), *_below(top, os.path.realpath(top), b"", {(status.st_dev, status.st_ino)})]


def _entry(kind: str, name: bytes, status: os.stat_result, link: bytes = b"") -> Entry:
    size = status.st_size if kind == "f" else 0
    mode = stat.S_IMODE(status.st_mode)
    return Entry(kind, name, mode, size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, link)


def _below(top: bytes, real: bytes, folder: bytes, above: set[tuple[int, int]]) -> Iterator[Entry]:
    with os.scandir(os.path.join(top, folder)) as scan:
        found = sorted(scan, key=lambda one: one.name)
    for one in found:
        name = os.path.join(folder, one.name)
        if one.is_symlink():
            link = _kept_link(one.path, real, name)
            if link is not None:
                yield _entry("l", name, one.stat(follow_symlinks=False), link)
                continue
        status = one.stat()
        if stat.S_ISREG(status.st_mode):
            yield _entry("f", name, status)
        elif stat.S_ISDIR(status.st_mode) and (status.st_dev, status.st_ino) not in above:  # a link may lead upwards
            yield _entry("d", name, status)
            yield from _below(top, real, name, above | {(status.st_dev, status.st_ino)})


def _kept_link(path: bytes, real: bytes, name: bytes) -> bytes | None:
    """What it leads to, relative to its folder; None where it has to be followed."""
    if not os.path.exists(path):
        return os.readlink(path)
    target = os.path.realpath(path)
    if target != real and not target.startswith(os.path.join(real, b"")):
        return None
    return os.path.relpath(target, os.path.join(real, os.path.dirname(name)))


def is_same_tree(one: Sequence[Entry], other: Sequence[Entry]) -> bool:
    """Are these the very same files, and not only ones of the same names, or copies?

    A copy has another inode and another time of change, which nobody can set; a file system that several hosts
    see tells both to all of them.
    """

    def marks(entries: Sequence[Entry]) -> Iterator[tuple[object, ...]]:
        for entry in entries:
            if entry.kind == "f":
                yield entry.name, entry.inode, entry.size, entry.mtime, entry.ctime
            else:
                yield entry.name, entry.inode, entry.link

    return len(one) == len(other) and all(a == b for a, b in zip(marks(one), marks(other), strict=True))


def pack_entries(entries: Sequence[Entry]) -> bytes:
    """As they travel."""
    fields = [
        entry._replace(name=entry.name.decode("latin-1"), link=entry.link.decode("latin-1"))  # type: ignore[arg-type]
        for entry in entries
    ]
    return zlib.compress(json.dumps(fields, separators=(",", ":")).encode(), 1)


def unpack_entries(data: bytes) -> list[Entry]:
    """Those that were packed."""
    entries = [Entry(*fields) for fields in json.loads(zlib.decompress(data))]
    return [
        entry._replace(name=str(entry.name).encode("latin-1"), link=str(entry.link).encode("latin-1"))
        for entry in entries
    ]


class TreeReader:
    """The stream of a tree that was listed.

    Parameters
    ----------
    root
        Of the tree.
    entries
        As it was listed.
    """

    def __init__(self, root: str, entries: Sequence[Entry]) -> None:
        self._root = os.fsencode(root)
        self._files = [entry for entry in entries if entry.kind == "f" and entry.size]
        self._ends = list(accumulate(entry.size for entry in self._files))

    def read(self, offset: int, length: int) -> bytes:
        """So many bytes of the stream from there on, fewer at its end.

        Raises
        ------
        OSError
            A file cannot be read, or is not any more what was listed.
        """
        pieces: list[bytes] = []
        place = bisect_right(self._ends, offset)
        while length and place < len(self._files):
            file = self._files[place]
            begin = offset - (self._ends[place] - file.size)
            pieces.append(self._read_file(file, begin, min(length, file.size - begin)))
            offset += len(pieces[-1])
            length -= len(pieces[-1])
            place += 1
        return b"".join(pieces)

    def _read_file(self, file: Entry, begin: int, length: int) -> bytes:
        path = os.path.join(self._root, file.name) if file.name else self._root
        with open(path, "rb", buffering=0) as stream:
            _check_unchanged(path, file, os.fstat(stream.fileno()))
            data = os.pread(stream.fileno(), length, begin)
            while 0 < len(data) < length and (more := os.pread(stream.fileno(), length - len(data), begin + len(data))):
                data += more
            _check_unchanged(path, file, os.fstat(stream.fileno()))
        if len(data) != length:
            raise OSError(f"{os.fsdecode(path)} was changed while it was being sent")
        return data


def _check_unchanged(path: bytes, file: Entry, status: os.stat_result) -> None:
    if (status.st_size, status.st_mtime_ns, status.st_ino) != (file.size, file.mtime, file.inode):
        raise OSError(f"{os.fsdecode(path)} was changed since the step run has begun to send it")


class TreeWriter:
    """A tree that comes as a stream.

    Parameters
    ----------
    root
        Where it is written; what lies there is a beginning of the same one.
    entries
        As the driver has listed them.

    Attributes
    ----------
    size
        Bytes of the stream.
    offset
        How much of it is there.
    """

    def __init__(self, root: Path, entries: Sequence[Entry]) -> None:
        self._root = os.fsencode(root)
        self._entries = entries
        self._files = [entry for entry in entries if entry.kind == "f"]
        self.size = sum(entry.size for entry in self._files)
        self.offset = 0
        self._next = 0
        self._open = -1
        self._missing = 0
        for entry in entries:
            if entry.kind == "d":
                os.makedirs(self._path(entry), mode=0o700, exist_ok=True)
        self._go_on()

    def _path(self, entry: Entry) -> bytes:
        if os.path.isabs(entry.name) or b".." in entry.name.split(b"/"):
            raise OSError(f"{entry.name!r} leads out of the tree")
        return os.path.join(self._root, entry.name) if entry.name else self._root

    def _go_on(self) -> None:
        """Where whoever wrote before has been killed."""
        for number, entry in enumerate(self._files):
            try:
                size = os.stat(self._path(entry)).st_size
            except FileNotFoundError:
                size = -1
            if size == entry.size:
                self.offset += size
                self._next = number + 1
                continue
            if 0 < size < entry.size:
                self._next = number + 1
                self._open = os.open(self._path(entry), os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
                self._missing = entry.size - size
                self.offset += size
            return

    def write(self, data: bytes) -> None:
        """The next piece of the stream."""
        view = memoryview(data)
        while view:
            if not self._missing:
                self._begin_next()
                continue
            written = os.write(self._open, view[: self._missing])
            self._missing -= written
            self.offset += written
            view = view[written:]

    def _begin_next(self) -> None:
        if self._next == len(self._files):
            raise OSError("more has come than was listed")
        self.close()
        entry = self._files[self._next]
        self._next += 1
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        self._open = os.open(self._path(entry), flags, 0o600)
        self._missing = entry.size

    def finish(self) -> None:
        """All of the stream has come: files that are empty, links, modes and times.

        Raises
        ------
        OSError
            It has not, or something cannot be written.
        """
        while not self._missing and self._next < len(self._files):
            self._begin_next()
        self.close()
        if self._missing or self.offset != self.size:
            raise OSError(f"{self.size - self.offset} bytes have not come")
        for entry in reversed(self._entries):
            path = self._path(entry)
            if entry.kind == "l":
                if not os.path.lexists(path):
                    os.symlink(entry.link, path)
                continue
            os.chmod(path, entry.mode & 0o777 | (0o700 if entry.kind == "d" else 0o400))
            os.utime(path, ns=(entry.mtime, entry.mtime))

    def close(self) -> None:
        """What has come stays for whoever goes on."""
        if self._open >= 0:
            os.close(self._open)
            self._open = -1
