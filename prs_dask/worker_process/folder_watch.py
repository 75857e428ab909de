"""Which files below a folder were written to: the kernel tells (inotify), so looking costs nothing where many lie.

Where the kernel has no watch to give, each look is a walk over all of them. A watch is one of a folder and not of its
name: where another one has come under the name, all begins anew.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from contextlib import suppress

from prs_dask.worker_process.safeguards import moved_away

__all__ = ["FolderWatch"]

_EVENT = struct.Struct("iIII")
_MODIFY, _CLOSE_WRITE, _MOVED_TO, _CREATE = 0x2, 0x8, 0x80, 0x100
_OVERFLOW, _IGNORED, _IS_FOLDER = 0x4000, 0x8000, 0x40000000
_MASK = _MODIFY | _CLOSE_WRITE | _MOVED_TO | _CREATE
_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC
_BUFFER_BYTES = 1 << 16

Look = tuple[int, int, int]
Root = tuple[int, int]


class FolderWatch:
    """Watches a folder that exists, from now on; what lies in it already counts as written to."""

    def __init__(self, folder: str) -> None:
        self._folder = os.fsencode(folder)
        self._descriptor = -1
        self._folders: dict[int, bytes] = {}
        self._looks: dict[bytes, Look] = {}
        self._walks = False
        self._root: Root | None = None  # of the folder that is watched
        self._first = self._begin()

    def changed(self) -> set[bytes]:
        """Names, below the folder, of files that were written to, made or put there since the last call."""
        try:
            return self._changed()
        except BaseException:  # of a signal handler of user code: what was told by then is lost, so all is told again
            self.close()
            self._looks.clear()
            raise

    def _changed(self) -> set[bytes]:
        names, self._first = self._first, set()
        if self._walks:
            return names | self._walk()
        while True:
            try:
                events = os.read(self._descriptor, _BUFFER_BYTES)
            except BlockingIOError:
                return names | self._of_another_root()
            except OSError:  # user code has closed it
                self._descriptor = -1
                return names | self._begin()
            if not self._take(events, names):
                self.close()
                return names | self._begin()

    def close(self) -> None:
        """Watch no more."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def _begin(self) -> set[bytes]:
        """Watch all there is; its files."""
        names: set[bytes] = set()
        self._folders.clear()
        self._root = _root(self._folder)
        try:
            self._descriptor = moved_away(_call("inotify_init1", _FLAGS))
            self._add(b"", names)
        except OSError:  # too many are in use, or there is no such thing
            self.close()
            self._walks = True
            return self._walk()
        return names

    def _of_another_root(self) -> set[bytes]:
        """What lies in the folder where it is another one by now; where there is none, one may come."""
        root = _root(self._folder)
        if root == self._root:
            return set()
        if root is None:
            self._root = None
            return set()
        self.close()
        return self._begin()

    def _add(self, name: bytes, names: set[bytes]) -> None:
        """Watch a folder and those below it; what is put there meanwhile is found by one of both.

        A folder that has got another name keeps its watch, which tells of the new name from then on.
        """
        number = _call("inotify_add_watch", self._descriptor, os.path.join(self._folder, name), _MASK)
        self._folders[number] = name
        for entry in _entries(self._folder, name):
            if entry.is_dir(follow_symlinks=False):
                with suppress(FileNotFoundError):
                    self._add(os.path.join(name, entry.name), names)
            elif entry.is_file(follow_symlinks=False):
                names.add(os.path.join(name, entry.name))

    def _take(self, events: bytes, names: set[bytes]) -> bool:
        """False where the watches tell nothing more that can be relied on."""
        at = 0
        while at < len(events):
            number, what, _, length = _EVENT.unpack_from(events, at)
            at += _EVENT.size + length
            if what & _OVERFLOW:
                return False
            if what & _IGNORED:  # the folder was removed
                if self._folders.pop(number, None) == b"":
                    self._root = None  # another one may have its number
                continue
            if number not in self._folders:
                continue
            name = os.path.join(self._folders[number], events[at - length : at].rstrip(b"\0"))
            if not what & _IS_FOLDER:
                names.add(name)
            elif what & (_CREATE | _MOVED_TO):
                try:
                    self._add(name, names)
                except (FileNotFoundError, NotADirectoryError):
                    pass  # it has gone again
                except OSError:
                    return False
        return True

    def _walk(self) -> set[bytes]:
        names = set()
        for name, look in _files(self._folder, b""):
            if self._looks.get(name) != look:
                self._looks[name] = look
                names.add(name)
        return names


def _root(folder: bytes) -> Root | None:
    try:
        status = os.stat(folder)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _call(name: str, *arguments: int | bytes) -> int:
    from ctypes import CDLL, get_errno

    result: int = getattr(CDLL(None, use_errno=True), name)(*arguments)
    if result < 0:
        raise OSError(get_errno(), os.strerror(get_errno()))
    return result


def _entries(folder: bytes, name: bytes) -> list[os.DirEntry[bytes]]:
    with suppress(OSError), os.scandir(os.path.join(folder, name)) as found:
        return list(found)
    return []


def _files(folder: bytes, name: bytes) -> Iterator[tuple[bytes, Look]]:
    for entry in _entries(folder, name):
        inner = os.path.join(name, entry.name)
        if entry.is_dir(follow_symlinks=False):
            yield from _files(folder, inner)
            continue
        with suppress(OSError):
            status = entry.stat(follow_symlinks=False)
            if stat.S_ISREG(status.st_mode):
                yield inner, (status.st_ino, status.st_size, status.st_mtime_ns)
