"""The node's cache: files of stores, each downloaded once and shared by all processes of the node.

::

    <folder>/locks                 locks by name, see `RangeLocks`
             ledger                bound, and bytes that are used or spoken for
             <key>/<name>          one file, whole, under the name that it has in its URL
             <key>.entry           that it is: size and time of change, and whether somebody has used it
             <key>.<size>.new-<x>/ where a downloader writes

    locks:   <key>                 shared: somebody uses it, or is about to. Alone: it is being removed
             <key>.fetch           alone: somebody downloads it
             <key>.<size>.new-<x>  alone: its downloader lives
             ledger                alone: somebody counts

The kernel lets go of the locks of a dead process, whatever killed it. A file stands under its name only when all
of it is there, and its entry says which it is: what user code has deleted or written to is downloaded
again for whoever asks next. A downloader that stands still is overtaken: who waits for it downloads the file itself.

The bound holds for what can be removed. A file that a mini-batch needs is always brought, also where it alone, or all
that is in use at the time, is larger; what is fetched ahead only where there is room.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from prs_dask.errors import ReadError
from prs_dask.stores.eviction import Entry, victims
from prs_dask.stores.file_info import FileInfo
from prs_dask.stores.file_names import cache_key, local_names
from prs_dask.stores.range_locks import RangeLocks
from prs_dask.stores.urls import shown

__all__ = ["Download", "NodeCache"]

Download = Callable[[Path], None]
"""Writes the whole file under this path."""

STANDSTILL_SECONDS = 5.0
"""A downloader whose file has not grown for so long is overtaken."""

LOOK_SECONDS = 0.005
DAMAGED_TRIES = 3
HIGH_DESCRIPTOR = 1000
SPARE_PART = 32
"""Where room has to be made, this part of the bound more is freed, so that not every file looks for some."""

AT_ONCE = 64

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_BAD_NAME = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ)
_ENTRY, _NEW, _FETCH, _LEDGER = ".entry", ".new-", ".fetch", "ledger"
_COUNTS = struct.Struct("<qq")


class NodeCache:
    """One process's view of the node's cache; its threads may share it.

    Parameters
    ----------
    folder
        The same for all processes of a node; made where it is missing.
    bound
        Bytes; what is given first counts for all. None: half of what is free on the disk.
    """

    def __init__(self, folder: Path, bound: int | None = None) -> None:
        self.folder = folder
        self._bound = bound
        self._held = self._new_locks(HIGH_DESCRIPTOR)
        with self._ledger():
            pass  # the bound stands there now

    # ---------------------------------------------------------------- what users of it ask

    def hold(self, file: FileInfo, download: Download) -> str:
        """Its local path, downloaded where it is missing. It stays until `let_go`.

        Raises
        ------
        ReadError
            The store has a file of another size now.
        OSError
            The disk is full, although everything unused was removed; and whatever ``download`` raises.
        """
        for _ in range(DAMAGED_TRIES):
            if path := self.hold_present(file):
                return path
            with self._new_locks() as own:
                self._await_turn(own, _key(file))
                if self._find(_key(file)) is None:
                    self._download(own, file, download, must=True)
        if path := self.hold_present(file):
            return path
        raise OSError(
            errno.EIO, f"{shown(file.path)} was downloaded {DAMAGED_TRIES} times, and each time something changed it"
        )

    def hold_present(self, file: FileInfo) -> str | None:
        """The same where it is there already; None where it has to be downloaded."""
        key = _key(file)
        try:
            self._held.share(key)
        except OSError as error:
            if error.errno != errno.EBADF:  # closed by user code
                raise
            self._held = self._new_locks(HIGH_DESCRIPTOR)
            self._held.share(key)
        return self._find(key, use=True)

    def let_go(self) -> None:
        """Of all files that are held: they may be removed now."""
        with suppress(OSError):
            self._held.let_go()

    def fetch_ahead(self, file: FileInfo, download: Download) -> bool:
        """Download it, if it is missing, nobody is at it and there is room; False where there is none."""
        with self._new_locks() as own:
            own.share(_key(file))
            if self._find(_key(file)) is not None or not own.take(_key(file) + _FETCH):
                return True
            return self._find(_key(file)) is not None or self._download(own, file, download, must=False)

    def close(self) -> None:
        """Let go of everything; the files stay."""
        with suppress(OSError):
            self._held.close()

    def _new_locks(self, lowest: int = 0) -> RangeLocks:
        """An owner of locks; also where user code has removed the whole folder."""
        path = str(self.folder / "locks")
        try:
            return RangeLocks(path, lowest)
        except FileNotFoundError:
            with suppress(FileExistsError):
                self.folder.mkdir(mode=0o700)
            return RangeLocks(path, lowest)

    # ---------------------------------------------------------------- looking

    def _find(self, key: str, *, use: bool = False) -> str | None:
        """The path of what is there and as it was downloaded; ``use``: this is a use of it."""
        try:
            descriptor = os.open(self.folder / (key + _ENTRY), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            told = _Told.parse(os.read(descriptor, 4096))
            path = os.path.join(self.folder, key, os.fsdecode(told.name))
            if _identity(path) != told.identity:
                return None
            if use:
                os.pwrite(descriptor, b"1", 0)  # which also tells the time of its last use
            return path
        finally:
            os.close(descriptor)

    def _await_turn(self, own: RangeLocks, key: str) -> None:
        """Until nobody else downloads it, or has done so, or has stood still for too long."""
        size, grown_at, look_at = -1, 0.0, 0.0
        while not own.take(key + _FETCH) and self._find(key) is None:
            now = time.monotonic()
            if now >= look_at:  # the folder may be a long one
                look_at = now + STANDSTILL_SECONDS / 10
                last, size = size, self._downloaded(key)
                grown_at = now if size != last else grown_at
                if now - grown_at > STANDSTILL_SECONDS:
                    return
            time.sleep(LOOK_SECONDS)

    def _downloaded(self, key: str) -> int:
        """Bytes that downloaders of it have written so far."""
        size = 0
        with suppress(FileNotFoundError):
            for name in os.listdir(self.folder):
                if name.startswith(key) and _NEW in name:
                    size += _bytes_below(self.folder / name)
        return size

    # ---------------------------------------------------------------- downloading

    def _download(self, own: RangeLocks, file: FileInfo, download: Download, *, must: bool) -> bool:
        """Bring it; False where there is no room for it, unless it ``must`` be brought."""
        room = max(0, file.size)
        if not self._make_room(room, must=must):
            return False
        counted = 0
        try:
            try:
                counted = self._bring(own, file, download)
            except OSError as error:
                if error.errno not in _NO_ROOM or not must:
                    raise
                self._make_room(room, must=True, everything=True)
                counted = self._bring(own, file, download)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            needed = "" if file.size < 0 else f" of {file.size:,} bytes"
            raise OSError(
                error.errno,
                f"no space left on this node's disk for {shown(file.path)}{needed}, although every unused file was "
                f"removed from its cache in {self.folder}; free some space there, or set TMPDIR of the workers",
            ) from error
        finally:
            with self._ledger() as ledger:
                ledger.used = max(0, ledger.used + counted - room)
        return True

    def _bring(self, own: RangeLocks, file: FileInfo, download: Download) -> int:
        """Download, check, and give it its name; returns its bytes."""
        name = f"{_key(file)}.{max(0, file.size)}{_NEW}{secrets.token_hex(6)}"
        own.take(name)
        workplace = self.folder / name
        workplace.mkdir(mode=0o700)
        try:
            target = workplace / "file"
            download(target)
            size = target.stat().st_size
            if file.size >= 0 and size != file.size:
                raise ReadError(
                    f"{shown(file.path)}: found {size:,} bytes, {file.size:,} when it was listed: the file was changed"
                )
            # A second ago: whatever is written to it from now on gives it another time.
            past = time.time_ns() - 1_000_000_000
            os.utime(target, ns=(past, past))
            self._publish(file, target, workplace)
            return size
        finally:
            shutil.rmtree(workplace, ignore_errors=True)

    def _publish(self, file: FileInfo, target: Path, workplace: Path) -> None:
        folder = self.folder / _key(file)
        if not folder.is_dir() or folder.is_symlink():  # user code may have left anything there
            _remove_any(folder)
        folder.mkdir(mode=0o700, exist_ok=True)
        for name in local_names(file.path):
            path = folder / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            try:
                os.rename(target, path)
                break
            except OSError as error:
                if error.errno not in _BAD_NAME:
                    raise
        else:
            raise OSError(errno.EINVAL, f"no file name for {shown(file.path)} that the disk of {self.folder} takes")
        told = workplace / "entry"
        told.write_bytes(_Told(False, _identity(str(path)) or (0, 0, 0), os.fsencode(name)).pack())
        os.replace(told, self.folder / (_key(file) + _ENTRY))

    # ---------------------------------------------------------------- room

    @contextmanager
    def _ledger(self) -> Iterator[_Ledger]:
        """The counts, for one process at a time; what is changed is kept."""
        with self._new_locks() as own:
            own.take_waiting(_LEDGER)
            descriptor = os.open(self.folder / _LEDGER, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                data = os.read(descriptor, _COUNTS.size)
                if len(data) == _COUNTS.size:
                    ledger = _Ledger(*_COUNTS.unpack(data))
                else:
                    half = shutil.disk_usage(self.folder).free // 2
                    ledger = _Ledger(half if self._bound is None else self._bound, 0)
                try:
                    yield ledger
                finally:
                    os.pwrite(descriptor, _COUNTS.pack(ledger.bound, ledger.used), 0)
            finally:
                os.close(descriptor)

    def _make_room(self, size: int, *, must: bool, everything: bool = False) -> bool:
        """Set so many bytes aside, and remove what is unused where they are too many.

        False, and nothing set aside, where it does not fit and need not.
        """
        with self._ledger() as ledger:
            if ledger.used + size > ledger.bound or everything:
                free, ledger.used = self._take_stock()
                while (need := ledger.used if everything else ledger.used + size - ledger.bound) > 0:
                    # Not too many at once: others wait for the ledger.
                    most = AT_ONCE + len(free) // SPARE_PART
                    chosen = victims(free, need, ledger.bound // SPARE_PART, unused_too=must)[:most]
                    if not chosen:
                        break
                    ledger.used -= sum(entry.size for entry in chosen if self._remove(entry.key))
                    gone = set(chosen)
                    free = [entry for entry in free if entry not in gone]
                if ledger.used + size > ledger.bound and not must:
                    return False
            ledger.used += size
            return True

    def _take_stock(self) -> tuple[list[Entry], int]:
        """What is there, and how many bytes it has with all that is being downloaded; clears what the dead left."""
        entries, folders, under_way = [], set(), 0
        for name in os.listdir(self.folder):
            if name.endswith(_ENTRY):
                with suppress(OSError, ValueError), open(self.folder / name, "rb") as file:
                    told = _Told.parse(file.read(4096))
                    last_use = os.fstat(file.fileno()).st_mtime
                    entries.append(Entry(name.removesuffix(_ENTRY), told.identity[0], told.used, last_use))
            elif _NEW in name:
                with self._new_locks() as own:
                    if own.take(name):
                        shutil.rmtree(self.folder / name, ignore_errors=True)
                    else:
                        under_way += int(name.partition(_NEW)[0].rpartition(".")[2])
            elif name not in (_LEDGER, "locks"):
                folders.add(name)
        for key in folders.difference(entry.key for entry in entries):
            self._remove(key)
        return entries, sum(entry.size for entry in entries) + under_way

    def _remove(self, key: str) -> bool:
        """Remove a file that nobody holds; False where somebody does."""
        with self._new_locks() as own:
            if not own.take(key):
                return False
            (self.folder / (key + _ENTRY)).unlink(missing_ok=True)
            _remove_any(self.folder / key)
            return True


def _key(file: FileInfo) -> str:
    """What it is called in the cache: another name for another version."""
    return cache_key(file.path, file.version)


class _Ledger:
    """``used`` counts bytes on the disk and those that downloads under way have set aside."""

    __slots__ = ("bound", "used")

    def __init__(self, bound: int, used: int) -> None:
        self.bound = bound
        self.used = used


class _Told(NamedTuple):
    """What an entry tells of its file."""

    used: bool
    identity: tuple[int, int, int]
    name: bytes

    def pack(self) -> bytes:
        size, changed, inode = self.identity
        return b"%d %d %d %d %s" % (self.used, size, changed, inode, self.name)

    @classmethod
    def parse(cls, data: bytes) -> _Told:
        used, size, changed, inode, name = data.split(b" ", 4)
        return cls(used == b"1", (int(size), int(changed), int(inode)), name)


def _identity(path: str) -> tuple[int, int, int] | None:
    """Size, time of the last change and inode; None where it is gone."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino


def _bytes_below(folder: Path) -> int:
    size = 0
    with suppress(OSError):
        for entry in os.scandir(folder):
            size += entry.stat(follow_symlinks=False).st_size
    return size


def _remove_any(path: Path) -> None:
    """A file, a link or a whole folder; nothing where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
