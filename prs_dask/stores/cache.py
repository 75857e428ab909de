"""The node's cache: files of stores, each downloaded once and shared by all processes of the node.

::

    <folder>/locks                 locks by name, see `RangeLocks`
             ledger                bound, and bytes that are used or spoken for
             <two digits>/         the files, see `prs_dask.stores.shelves`
             new/<key>.<size>.<x>/ where a downloader writes

    locks:   <key>                 shared: somebody uses it, or is about to. Alone: it is being removed
             <key>.fetch           alone: somebody downloads it
             <key>.<size>.<x>      alone: its downloader lives
             room                  alone: somebody removes what is unused
             ledger                alone: somebody counts, or puts a file on its shelf

The kernel lets go of the locks of a dead process, whatever killed it. A file stands under its name only when all
of it is there: what user code has deleted or written to is downloaded again for whoever asks next. A downloader that
stands still is overtaken: who waits for it downloads the file himself.

Where room is needed, a sample of the files that are there is compared, and the longest unused of it go: all, where
there are few. So making room takes as long among a million files as among thousands, and nobody waits for more than
one such sample.

The bound holds for what can be removed. A file that a mini-batch needs is always brought, also where it alone, or all
that is in use at the time, is larger; what is fetched ahead only where there is room.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from prs_dask.errors import ReadError
from prs_dask.stores.file_info import FileInfo
from prs_dask.stores.file_names import cache_key, local_names
from prs_dask.stores.ledger import Ledger
from prs_dask.stores.range_locks import RangeLocks
from prs_dask.stores.shelves import Shelves, longest_unused_first
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

AT_ONCE = 128
"""Files that are removed before others are looked at: a quarter of those that were compared, at most."""

LOOK_AT = 4096
"""Where all of so many are in use, no more are looked at."""

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_BAD_NAME = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ)
_FETCH, _ROOM = ".fetch", "room"


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
        self._new = folder / "new"
        self._shelves = Shelves(folder)
        self._ledger = Ledger(folder, bound)
        self._held = self._new_locks(HIGH_DESCRIPTOR)
        with self._ledger.open(self._held):
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
                if self._shelves.find(_key(file)) is None:
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
        return self._shelves.find(key, use=True)

    def let_go(self) -> None:
        """Of all files that are held: they may be removed now."""
        with suppress(OSError):
            self._held.let_go()

    def fetch_ahead(self, file: FileInfo, download: Download) -> bool:
        """Download it, if it is missing, nobody is at it and there is room; False where there is none."""
        with self._new_locks() as own:
            own.share(_key(file))
            if self._shelves.find(_key(file)) is not None or not own.take(_key(file) + _FETCH):
                return True
            return self._shelves.find(_key(file)) is not None or self._download(own, file, download, must=False)

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

    # ---------------------------------------------------------------- downloading

    def _await_turn(self, own: RangeLocks, key: str) -> None:
        """Until nobody else downloads it, or has done so, or has stood still for too long."""
        size, grown_at, look_at = -1, 0.0, 0.0
        while not own.take(key + _FETCH) and self._shelves.find(key) is None:
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
            for name in os.listdir(self._new):
                if name.startswith(key):
                    size += _bytes_below(self._new / name)
        return size

    def _download(self, own: RangeLocks, file: FileInfo, download: Download, *, must: bool) -> bool:
        """Bring it; False where there is no room for it, unless it ``must`` be brought."""
        if not self._make_room(own, max(0, file.size), must=must):
            return False
        try:
            try:
                self._bring(own, file, download)
            except OSError as error:
                if error.errno not in _NO_ROOM or not must:
                    raise
                self._make_room(own, max(0, file.size), must=True, everything=True)
                self._bring(own, file, download)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            needed = "" if file.size < 0 else f" of {file.size:,} bytes"
            raise OSError(
                error.errno,
                f"no space left on this node's disk for {shown(file.path)}{needed}, although every unused file was "
                f"removed from its cache in {self.folder}; free some space there, or set TMPDIR of the workers",
            ) from error
        return True

    def _bring(self, own: RangeLocks, file: FileInfo, download: Download) -> None:
        """Download into the room that was set aside, check, and put it on its shelf."""
        room = max(0, file.size)
        change = -room
        name = f"{_key(file)}.{room}.{secrets.token_hex(6)}"
        workplace = self._new / name
        try:
            own.take(name)
            (workplace / "named").mkdir(mode=0o700, parents=True)
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
            named = self._name(file, target, workplace / "named")
            with self._ledger.open(own) as counts:
                if self._shelves.find(_key(file)) is None:  # nobody was faster
                    counts.add(size)
                    change -= size
                    change += size - self._shelves.put(_key(file), named, workplace / "told")
        finally:
            shutil.rmtree(workplace, ignore_errors=True)
            with self._ledger.open(own) as counts:
                counts.add(change)

    def _name(self, file: FileInfo, target: Path, folder: Path) -> Path:
        """Give it the first of its names that the disk takes."""
        for name in local_names(file.path):
            try:
                return target.rename(folder / name)
            except OSError as error:
                if error.errno not in _BAD_NAME:
                    raise
        raise OSError(errno.EINVAL, f"no file name for {shown(file.path)} that the disk of {self.folder} takes")

    # ---------------------------------------------------------------- room

    def _make_room(self, own: RangeLocks, size: int, *, must: bool, everything: bool = False) -> bool:
        """Set so many bytes aside, and remove what is unused where they are too many.

        False, and nothing set aside, where it does not fit and need not. One process at a time removes; meanwhile
        the others use what has been made free.
        """
        if not everything and self._set_aside(own, size) is None:
            return True
        with self._new_locks() as remover:
            remover.take_waiting(_ROOM)
            self._clear_dead(remover)
            missing = (sys.maxsize, 0) if everything else self._set_aside(remover, size)
            while missing is not None and self._remove_some(remover, *missing, unused_too=must):
                if not everything:
                    missing = self._set_aside(remover, size)
            if missing is None:
                return True
        if must:
            with self._ledger.open(own) as counts:
                counts.add(size)
        return must

    def _set_aside(self, own: RangeLocks, size: int) -> tuple[int, int] | None:
        """So many bytes, where they fit; else how many are missing, and how many more it is worth to make free."""
        with self._ledger.open(own) as counts:
            missing = counts.used + size - counts.bound
            if missing > 0:
                return missing, counts.bound // SPARE_PART
            counts.add(size)
            return None

    def _remove_some(self, own: RangeLocks, missing: int, spare: int, *, unused_too: bool) -> bool:
        """Remove some of the longest unused; False where none was found that nobody holds.

        Those that were used come before those that wait for their first use, of which no more go than have to.
        """
        for used in (True, False) if unused_too else (True,):
            enough, looked = missing + spare if used else missing, 0
            for sample in self._shelves.samples(used=used):
                removed = freed = 0
                for entry in longest_unused_first(sample):
                    if removed >= AT_ONCE or freed >= enough:
                        break
                    if self._remove(own, entry.key):
                        removed, freed = removed + 1, freed + entry.size
                if removed:
                    return True
                looked += len(sample)
                if looked >= LOOK_AT and missing < sys.maxsize:
                    break
        return False

    def _remove(self, own: RangeLocks, key: str) -> bool:
        """Remove a file that nobody holds; False where somebody does."""
        if not own.take(key):
            return False
        try:
            size = self._shelves.remove(key)
            with self._ledger.open(own) as counts:
                counts.add(-size)
        finally:
            own.let_go_of(key)
        return True

    def _clear_dead(self, own: RangeLocks) -> None:
        """Remove what killed downloaders left behind, and what they had set aside."""
        with suppress(FileNotFoundError):
            for name in os.listdir(self._new):
                if not own.take(name):
                    continue
                if (self._new / name).exists():  # else it has ended meanwhile, and taken off its room itself
                    shutil.rmtree(self._new / name, ignore_errors=True)
                    with self._ledger.open(own) as counts:
                        counts.add(-int(name.split(".")[1]))
                own.let_go_of(name)


def _key(file: FileInfo) -> str:
    """What it is called in the cache: another name for another version."""
    return cache_key(file.path, file.version)


def _bytes_below(folder: Path) -> int:
    size = 0
    with suppress(OSError):
        for entry in os.scandir(folder):
            size += entry.stat(follow_symlinks=False).st_size
    return size
