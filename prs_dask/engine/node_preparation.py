"""What a worker needs before its first process starts: the source, and side inputs, once a node.

The first supervisor of the node that gets the lock fetches; when it dies, the next one goes on where it was, and when
it only hangs, the others fetch for themselves. A worker that sees a side input where the driver has it uses it there.

    <node folder>/source-<digest>/
                  parcel-<number>.lock, .list      who fetches; what a side input consists of
                  parcel-<number>.coming/<name>    as much of it as has come
                  parcel-<number>/<name>           all of it
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prs_dask.engine.file_tree import Entry, TreeWriter, is_same_tree, list_tree, unpack_entries
from prs_dask.engine.node_lock import NodeLock
from prs_dask.engine.parcels import PIECE_BYTES, SideInput, sight
from prs_dask.engine.source_folder import unpack
from prs_dask.quantities import format_bytes, format_count, format_seconds

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from prs_dask.engine.spool import NodeFolder

__all__ = ["NodePreparation", "Over", "on_node"]

LOCK_SECONDS = 0.05
STUCK_SECONDS = 30.0
"""Whoever holds the lock and has got no piece for so long may be stopped, or hang, for ever."""

FREE_BYTES = 64 << 20
"""So much of the node's disk stays free."""


class _Stuck(Exception):
    """Whoever fetches for the node makes no progress."""


class Over(Exception):
    """The step run is over, or the worker goes: nothing has to be prepared any more."""


def on_node(text: str, places: Sequence[tuple[str, str]]) -> str:
    """A path of the driver as it is on this node: that of a side input which was sent, or of something in it."""
    for driver, here in places:
        if text == driver or text.startswith(os.path.join(driver, "")):
            return here + text[len(driver) :]
    return text


class NodePreparation:
    """See the module's docstring.

    Parameters
    ----------
    call
        Calls the scheduler plugin.
    folder
        Of the node.
    is_over
        Has the step run ended, or is the worker going?

    Attributes
    ----------
    told
        What was fetched, in words.
    """

    def __init__(
        self, call: Callable[..., Awaitable[dict[str, Any]]], folder: NodeFolder, is_over: Callable[[], object]
    ) -> None:
        self.told: list[str] = []
        self._call = call
        self._folder = folder
        self._base = folder.path  # where it is for all of the node
        self._held: Path | None = None
        self._is_over = is_over

    async def source(self, digest: str) -> Path:
        """The folder with the source.

        Raises
        ------
        Over, OSError, RuntimeError
            The latter: it is not what was sent.
        """
        found = self._folder.source(digest)
        if found is not None:
            return found
        try:
            async with self._lock(0):
                found = self._folder.source(digest)
                if found is None:
                    archive = await self._archive(digest)
                    found = await asyncio.to_thread(self._folder.unpack_source, digest, archive)
        except _Stuck:
            found = self._folder.own / "source"
            await asyncio.to_thread(unpack, await self._archive(digest), found)
        return found

    async def _archive(self, digest: str) -> bytes:
        archive = await self._all(0, listing=False)
        if hashlib.sha256(archive).hexdigest() != digest:
            raise RuntimeError("the source archive did not arrive as it was sent")
        return archive

    async def side_input(self, number: int, side_input: SideInput) -> str:
        """Where a side input lies for this worker, with the links that lead to it.

        Raises
        ------
        Over, OSError
            The latter: the disk is full, or a link cannot be made; the message tells the side input.
        """
        try:
            try:
                place = await self._place(number, side_input)
            except _Stuck:
                self._base = self._folder.own
                place = await self._place(number, side_input)
            for link in side_input.links:
                await asyncio.to_thread(self._folder.link, link, place)
        except OSError as error:
            raise OSError(f"side input {side_input.data}: {error}") from error
        return place

    async def _place(self, number: int, side_input: SideInput) -> str:
        if await asyncio.to_thread(_is_here, side_input):
            return side_input.data
        name = os.path.basename(side_input.data) or "data"
        whole = self._base / f"parcel-{number}"
        entries = await self._listed(number)
        if await asyncio.to_thread(_is_shared, side_input, entries):
            return side_input.data
        if not whole.exists():
            async with self._lock(number):
                if not whole.exists():
                    await self._fetch(number, name, entries, side_input.data)
        return str(whole / name)

    async def _listed(self, number: int) -> list[Entry]:
        path = self._base / f"parcel-{number}.list"
        if not path.exists():
            async with self._lock(number):
                if not path.exists():
                    fresh = path.with_suffix(".new")
                    await asyncio.to_thread(fresh.write_bytes, await self._all(number, listing=True))
                    fresh.rename(path)
        return unpack_entries(await asyncio.to_thread(path.read_bytes))

    async def _fetch(self, number: int, name: str, entries: list[Entry], whose: str) -> None:
        coming = self._base / f"parcel-{number}.coming"
        coming.mkdir(mode=0o700, exist_ok=True)
        begun = time.monotonic()
        writer = await asyncio.to_thread(TreeWriter, coming / name, entries)
        try:
            _check_room(coming, writer.size - writer.offset)
            went_on = f", from {format_bytes(writer.offset)} on" if writer.offset else ""
            offset = writer.offset
            piece = await self._piece(number, offset) if offset < writer.size else b""
            while piece:
                offset += len(piece)
                more = asyncio.create_task(self._piece(number, offset)) if offset < writer.size else None
                try:
                    await asyncio.to_thread(writer.write, piece)
                    piece = await more if more is not None else b""
                finally:
                    if more is not None:
                        more.cancel()
            await asyncio.to_thread(writer.finish)
        finally:
            writer.close()
        coming.rename(self._base / f"parcel-{number}")
        files = sum(entry.kind == "f" for entry in entries)
        took = format_seconds(time.monotonic() - begun)
        size = f"{format_count(files)} file{'s' * (files != 1)}, {format_bytes(writer.size)}"
        self.told.append(f"side input {whose} is not seen there: sent in {took} ({size}{went_on})")

    async def _all(self, number: int, *, listing: bool) -> bytes:
        pieces: list[bytes] = []
        while not pieces or len(pieces[-1]) == PIECE_BYTES:
            pieces.append(await self._piece(number, len(pieces) * PIECE_BYTES, listing=listing))
        return b"".join(pieces)

    async def _piece(self, number: int, offset: int, *, listing: bool = False) -> bytes:
        answer = await self._call("piece", parcel=number, offset=offset, listing=listing)
        if self._is_over() or "data" not in answer:
            raise Over
        data: bytes = answer["data"]
        if self._held is not None:
            os.utime(self._held)
        return data

    @asynccontextmanager
    async def _lock(self, number: int) -> AsyncIterator[None]:
        """Of this parcel on this node: whoever holds it fetches."""
        if self._base != self._folder.path:
            yield
            return
        path = self._folder.path / f"parcel-{number}.lock"
        lock = NodeLock(path)
        while not lock.is_ours():
            if self._is_over():
                raise Over
            if time.time() - path.stat().st_mtime > STUCK_SECONDS:
                raise _Stuck
            await asyncio.sleep(LOCK_SECONDS)
        self._held = path
        os.utime(path)
        try:
            yield
        finally:
            self._held = None
            lock.release()


def _is_here(side_input: SideInput) -> bool:
    """Is it the driver's file for certain, with all that is below it?"""
    try:
        return bool(side_input.sight[0]) and sight(side_input.data) == side_input.sight
    except OSError:
        return False


def _is_shared(side_input: SideInput, entries: Sequence[Entry]) -> bool:
    """Are these the driver's files, on a file system that both see?"""
    try:
        return os.stat(side_input.data).st_ino == entries[0].inode and is_same_tree(list_tree(side_input.data), entries)
    except OSError:
        return False


def _check_room(folder: Path, wanted: int) -> None:
    free = shutil.disk_usage(folder).free
    if wanted + FREE_BYTES > free:
        raise OSError(
            f"found {format_bytes(free)} free in {folder}, {format_bytes(wanted)} have to come; free some, or start the"
            " worker with another TMPDIR, or share the folder with its host"
        )
