"""Where the files of the node's cache stand: finding them, putting them there, comparing and removing them.

::

    <folder>/<shelf>/files/<key>/<name>   one file, whole, under the name that it has in its URL
                     waiting/<key>        that it is (`Told`), as long as no mini-batch has had it
                     used/<key>           the same once one has; its time of change is the last use

A shelf is the first two digits of the key, which is a hash: so the files of one shelf are a fair sample of all, and
what to remove is chosen without looking at hundreds of thousands. A file is there if what tells of it fits it. What
tells is written before the file gets its name, and removed after it: whoever dies in between leaves no file of
which nothing tells.

No locks here: see `prs_dask.stores.cache`.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

__all__ = ["SHELVES", "Entry", "Shelves", "identity", "longest_unused_first", "remove_any"]

SHELVES = tuple(f"{number:02x}" for number in range(256))
SAMPLE = 512
"""Entries that are compared at a time; the longest unused of so many is hardly younger than that of all."""

_FILES, _WAITING, _USED = "files", "waiting", "used"
_CHANCE = random.SystemRandom()  # user code may seed the other


class Entry(NamedTuple):
    """A file of the cache.

    Parameters
    ----------
    key
        Names it.
    size
        Bytes.
    last_use
        When it was used last, or fetched; seconds since the epoch.
    """

    key: str
    size: int
    last_use: float


class Told(NamedTuple):
    """What is told of a file: size, time of its last change, inode; and its name."""

    identity: tuple[int, int, int]
    name: bytes

    def pack(self) -> bytes:
        """As bytes."""
        return b"%d %d %d %s" % (*self.identity, self.name)

    @classmethod
    def parse(cls, data: bytes) -> Told:
        """From bytes; ValueError where they are something else."""
        size, changed, inode, name = data.split(b" ", 3)
        return cls((int(size), int(changed), int(inode)), name)


class Shelves:
    """See the module's docstring."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)

    def find(self, key: str, *, use: bool = False) -> str | None:
        """The path of what is there and as it was downloaded; ``use``: this is a use of it."""
        for where in (_WAITING, _USED):
            try:
                descriptor = os.open(self._path(key, where), os.O_RDONLY | os.O_CLOEXEC)
            except (FileNotFoundError, NotADirectoryError):
                continue
            try:
                told = Told.parse(os.read(descriptor, 4096))
                path = os.path.join(self._path(key, _FILES), os.fsdecode(told.name))
                if identity(path) != told.identity:
                    continue
                if use:
                    os.utime(descriptor)
                    if where == _WAITING:
                        with suppress(FileNotFoundError):  # another process has done so
                            os.rename(self._path(key, _WAITING), self._path(key, _USED))
                return path
            except ValueError:  # user code has written there
                continue
            finally:
                os.close(descriptor)
        return None

    def put(self, key: str, file: Path, told: Path) -> int:
        """Place ``file`` under its name; ``told`` is a path of the same folder, to be written and renamed.

        Returns
        -------
        int
            Bytes of what stood there under the same key, which is gone.
        """
        if not os.path.isdir(os.path.dirname(self._path(key, _USED))):
            for where in (_FILES, _WAITING, _USED):
                os.makedirs(os.path.dirname(self._path(key, where)), 0o700, exist_ok=True)
        before = self._told_size(key)
        folder = Path(self._path(key, _FILES))
        if not folder.is_dir() or folder.is_symlink():  # user code may have left anything there
            remove_any(folder)
            folder.mkdir(mode=0o700)
        path = folder / file.name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        told.write_bytes(Told(identity(str(file)) or (0, 0, 0), os.fsencode(file.name)).pack())
        os.replace(told, self._path(key, _WAITING))
        with suppress(FileNotFoundError):
            os.unlink(self._path(key, _USED))
        os.rename(file, path)
        return before

    def remove(self, key: str) -> int:
        """Remove a file; returns its bytes."""
        size = self._told_size(key)
        remove_any(Path(self._path(key, _FILES)))
        for where in (_WAITING, _USED):
            with suppress(FileNotFoundError):
                os.unlink(self._path(key, where))
        return size

    def samples(self, *, used: bool) -> Iterator[list[Entry]]:
        """All that were used, or none of which was: some `SAMPLE` at a time, from anywhere.

        Where there are many more, some on each shelf are left out.
        """
        where = _USED if used else _WAITING
        first = _CHANCE.randrange(len(SHELVES))
        seen: list[Entry] = []
        for shelf in SHELVES[first:] + SHELVES[:first]:
            try:
                keys = os.listdir(os.path.join(self._folder, shelf, where))
            except OSError:  # there is none, or user code has made something else of it
                continue
            if len(keys) > SAMPLE:
                keys = _CHANCE.sample(keys, SAMPLE)
            for key in keys:
                with suppress(OSError, ValueError), open(self._path(key, where), "rb", 0) as file:
                    size = Told.parse(file.read(4096)).identity[0]
                    seen.append(Entry(key, size, os.fstat(file.fileno()).st_mtime))
            if len(seen) >= SAMPLE:
                yield seen
                seen = []
        if seen:
            yield seen

    def _told_size(self, key: str) -> int:
        size = 0
        for where in (_WAITING, _USED):
            with suppress(OSError, ValueError), open(self._path(key, where), "rb", 0) as file:
                size += Told.parse(file.read(4096)).identity[0]
        return size

    def _path(self, key: str, where: str) -> str:
        return f"{self._folder}/{key[:2]}/{where}/{key}"


def longest_unused_first(entries: Iterable[Entry]) -> list[Entry]:
    """In the order in which they may be removed."""
    return sorted(entries, key=attrgetter("last_use", "key"))


def identity(path: str) -> tuple[int, int, int] | None:
    """Size, time of the last change and inode; None where it is gone."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino


def remove_any(path: Path) -> None:
    """A file, a link or a whole folder; nothing where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
