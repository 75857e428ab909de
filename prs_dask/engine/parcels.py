"""What workers fetch from the driver, through the scheduler: the source, and side inputs that they do not see.

::

    worker ──piece──▶ exchange on the scheduler ◀──parcels── desk, a thread of the driver
                      (asked for, on its way)                reads what is asked for

A parcel is asked for in pieces of `PIECE_BYTES`, one at a time by each node. Neither scheduler nor driver holds more
than what is on its way: a node that asks for the next piece has got the last one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from prs_dask.engine.file_tree import TreeReader, list_tree, pack_entries

__all__ = ["PIECE_BYTES", "Desk", "Exchange", "Parcel", "SentBytes", "SentTree", "SideInput", "sight"]

PIECE_BYTES = 2 << 20
MOST_BYTES = 32 << 20
"""On their way from the scheduler to workers, all together."""

MOST_AT_ONCE = 4
"""Pieces that the driver reads for one call."""

WAIT_SECONDS = 2.0
AGAIN_SECONDS = 0.5
JOIN_SECONDS = 3.0

Key = tuple[int, bool, int]
"""Number of the parcel; its list rather than its content; offset."""


class SideInput(NamedTuple):
    """A side input, as workers are told of it.

    Parameters
    ----------
    data
        Where it lies on the driver.
    links
        Places that are to lead to it on each node.
    sight
        See `sight`; with the device and inode of ``data`` it tells at once that a worker sees the same.
    """

    data: str
    links: tuple[str, ...]
    sight: tuple[str, int, int]


def sight(path: str | os.PathLike[str]) -> tuple[str, int, int]:
    """What is the same for two processes only where they see the same file, and all that is below it: kernel, mount
    namespace and root folder (empty where they cannot be told), device and inode.

    Raises
    ------
    OSError
        There is no such file.
    """
    found = os.stat(path)
    try:
        kernel = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        root = os.stat("/")
        where = f"{kernel}/{os.readlink('/proc/self/ns/mnt')}/{root.st_dev}:{root.st_ino}"
    except OSError:
        where = ""
    return where, found.st_dev, found.st_ino


# -------------------------------------------------------------------- on the driver


class Parcel(Protocol):
    """What can be fetched."""

    def listing(self) -> bytes:
        """What it consists of."""

    def read(self, offset: int, length: int) -> bytes:
        """A piece of its content, shorter or empty at its end; OSError: it cannot be read, or has changed."""


class SentBytes:
    """A parcel that lies in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def listing(self) -> bytes:
        return b""

    def read(self, offset: int, length: int) -> bytes:
        return self._data[offset : offset + length]


class SentTree:
    """A file or folder; it is listed when it is first asked for."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._listing = b""
        self._reader: TreeReader | None = None

    def listing(self) -> bytes:
        self._opened()
        return self._listing

    def read(self, offset: int, length: int) -> bytes:
        return self._opened().read(offset, length)

    def _opened(self) -> TreeReader:
        if self._reader is None:
            entries = list_tree(self._path)
            self._listing = pack_entries(entries)
            self._reader = TreeReader(self._path, entries)
        return self._reader


class Desk:
    """Reads what workers ask for, in a thread of its own.

    Parameters
    ----------
    call
        Calls the scheduler plugin; its own, for others may be told to hurry.
    parcels
        By number.
    """

    def __init__(self, call: Any, parcels: Sequence[Parcel]) -> None:
        self._call = call
        self._parcels = parcels
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="prs-parcels", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        answers: list[tuple[Key, bytes, str]] = []
        while not self._over.is_set():
            try:
                reply = self._call("parcels", answers=answers, wait=WAIT_SECONDS)
            except Exception:  # whatever it is, others tell it and end the step run, or it passes
                self._over.wait(AGAIN_SECONDS)
                continue
            if reply["wanted"] is None:
                return
            answers = [self._answer(*key) for key in reply["wanted"]]

    def _answer(self, number: int, listing: bool, offset: int) -> tuple[Key, bytes, str]:
        key = (number, listing, offset)
        try:
            parcel = self._parcels[number]
            if listing:
                return key, parcel.listing()[offset : offset + PIECE_BYTES], ""
            return key, parcel.read(offset, PIECE_BYTES), ""
        except Exception as error:
            name = getattr(error, "filename", None)
            text = f"{os.fsdecode(name)}: {getattr(error, 'strerror', '')}" if name else str(error) or repr(error)
            return key, b"", f"a side input cannot be sent to workers that do not see it: {text}"

    def close(self) -> None:
        """To be called when the scheduler plugin is closed, or there is none."""
        self._over.set()
        self._call.hurry(0.0)
        self._thread.join(JOIN_SECONDS)


# -------------------------------------------------------------------- on the scheduler


class Exchange:
    """Pieces that workers wait for, and how much is on its way to them."""

    def __init__(self) -> None:
        self._waiting: dict[Key, asyncio.Future[bytes | None]] = {}
        self._who: dict[Key, set[str]] = {}  # waits for each of these
        self._closed = False
        self._on_its_way: dict[str, int] = {}
        self._news = asyncio.Event()

    async def piece(self, worker: str, key: Key) -> bytes | None:
        """A piece; None where all is over. Nodes that ask for the same one at the same time get the same."""
        self.left(worker)
        if self._closed:
            return None
        future = self._waiting.setdefault(key, asyncio.get_running_loop().create_future())
        self._who.setdefault(key, set()).add(worker)
        self._news.set()
        return await asyncio.shield(future)

    def left(self, worker: str) -> None:
        """What was sent to the worker has come, or never will."""
        self._on_its_way.pop(worker, None)
        for waiting in self._who.values():
            waiting.discard(worker)
        self._news.set()

    async def serve(self, answers: Sequence[tuple[Key, bytes, str]], wait: float) -> list[Key] | None:
        """The driver's pieces; what it is to read next, as soon as there is something, and None where all is over."""
        for (number, listing, offset), data, _ in answers:
            future = self._waiting.pop((number, listing, offset), None)
            if future is not None and not future.done():
                self._on_its_way |= dict.fromkeys(self._who.pop((number, listing, offset)), len(data))
                future.set_result(data)
        until = time.monotonic() + wait
        while not (wanted := self._next()) and not self._closed and (left := until - time.monotonic()) > 0:
            self._news.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._news.wait(), left)
        return None if self._closed else wanted

    def _next(self) -> list[Key]:
        room = (MOST_BYTES - sum(self._on_its_way.values())) // PIECE_BYTES
        return list(self._waiting)[: min(room, MOST_AT_ONCE)] if room > 0 else []

    def close(self) -> None:
        """Nothing more is asked for."""
        self._closed = True
        for future in self._waiting.values():
            if not future.done():
                future.set_result(None)
        self._waiting.clear()
        self._news.set()
