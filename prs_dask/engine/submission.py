"""Mini-batches, listed and cut ahead of the driver in a thread of its own.

A slow store or a scan of a large file never holds up the writing of results, and the queue
between the two is bounded, in number and in bytes: a million mini-batches are never in memory.

Each batch is written into the manifest before it is handed out: a resume finds every mini-batch that
may have been run, whatever has become of the inputs.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Iterable
from itertools import islice

from prs_dask.mini_batches import MiniBatch, decode, encode
from prs_dask.output.manifest import ManifestWriter

__all__ = ["Submission", "Supply"]

Supply = tuple[int, int | None, bytes]
"""(mini-batch id, items where known, descriptor) as the judge wants it."""

BATCH = 256
BATCHES_AHEAD = 16
BATCH_BYTES = 1 << 20
BYTES_AHEAD = 32 << 20
"""Descriptors listed ahead, where rows in memory travel in them."""

TAKEN_BYTES = 16 << 20
"""What one round sends to the scheduler at most, but for a single one that is larger."""

LISTING_SECONDS = 2.0
"""So long the end waits for a listing that is in the middle of a request to its store."""

_FINISHED = b""

_Listed = tuple[int | None, bytes, str]
"""(items where known, descriptor, detail)"""


class Submission:
    """Lists mini-batches in order; ids count them from 0.

    Parameters
    ----------
    mini_batches
        All of them, lazily; None in place of one that an earlier part of the same step run has finished.
    manifest
        Where those are written that do not stand there yet.

    Attributes
    ----------
    details
        What each holds, in a few words, by its id, until it is forgotten: every row of the logs tells it, and to
        decode the descriptor for that would cost more than the rest of the row.
    """

    def __init__(self, mini_batches: Iterable[MiniBatch | None], manifest: ManifestWriter) -> None:
        self.listed = 0
        self.ended = False
        self.error: BaseException | None = None
        self._mini_batches = iter(mini_batches)
        self._manifest = manifest
        self._bytes_ahead = 0
        self._changed = threading.Condition()
        self.details: dict[int, str] = {}
        self._queue: queue.Queue[list[_Listed] | BaseException | None] = queue.Queue(BATCHES_AHEAD)
        self._ready: deque[Supply] = deque()
        self._ready_bytes = 0
        self._under_way: dict[int, bytes] = {}
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._list, name="prs-submission", daemon=True)
        self._thread.start()

    def _list(self) -> None:
        end: BaseException | None = None
        listed = 0
        try:
            while batch := self._next_batch():
                self._manifest.append(listed, [mini_batch for mini_batch, _ in batch], time.time())
                listed += len(batch)
                self._wait_for_room(sum(len(descriptor) for _, descriptor in batch))
                self._put([_listed(mini_batch, descriptor) for mini_batch, descriptor in batch])
            if not self._closed.is_set():
                self._manifest.end()
        except BaseException as error:
            end = error
        finally:
            del self._mini_batches  # what was read ahead for it ends with it
        self._put(end)

    def _next_batch(self) -> list[tuple[MiniBatch | None, bytes]]:
        batch, size = [], 0
        for item in islice(self._mini_batches, BATCH):
            if self._closed.is_set():
                break
            batch.append((item, _FINISHED if item is None else encode(item)))
            size += len(batch[-1][1])
            if size >= BATCH_BYTES:
                break
        return batch

    def _wait_for_room(self, size: int) -> None:
        with self._changed:
            self._changed.wait_for(
                lambda: not self._bytes_ahead or self._bytes_ahead + size <= BYTES_AHEAD or self._closed.is_set()
            )
            self._bytes_ahead += size

    def _put(self, batch: list[_Listed] | BaseException | None) -> None:
        while not self._closed.is_set():
            try:
                self._queue.put(batch, timeout=0.25)
                return
            except queue.Full:
                continue

    def take(self, count: int) -> list[Supply]:
        """Up to ``count`` mini-batches, fewer where they are large, without waiting."""
        while len(self._ready) < count and self._ready_bytes < TAKEN_BYTES and not self.ended:
            try:
                batch = self._queue.get_nowait()
            except queue.Empty:
                break
            if isinstance(batch, list):
                with self._changed:
                    self._bytes_ahead -= sum(len(descriptor) for _, descriptor, _ in batch)
                    self._changed.notify_all()
                for items, descriptor, detail in batch:
                    if descriptor is not _FINISHED:
                        self._ready.append((self.listed, items, descriptor))
                        self._ready_bytes += len(descriptor)
                        self.details[self.listed] = detail
                    self.listed += 1
            else:
                self.error, self.ended = batch, True
        taken = self._first(count)
        self._under_way.update((number, descriptor) for number, _, descriptor in taken)
        return taken

    def _first(self, count: int) -> list[Supply]:
        taken: list[Supply] = []
        size = 0
        while self._ready and len(taken) < count:
            size += len(self._ready[0][2])
            if taken and size > TAKEN_BYTES:
                break
            taken.append(self._ready.popleft())
        self._ready_bytes -= sum(len(descriptor) for _, _, descriptor in taken)
        return taken

    @property
    def ahead(self) -> int:
        """How many are listed and not taken, about: there may be more behind them."""
        return len(self._ready) + self._queue.qsize() * BATCH

    def mini_batch(self, number: int) -> MiniBatch | None:
        """A mini-batch that was taken and has not been forgotten."""
        descriptor = self._under_way.get(number)
        return None if descriptor is None else decode(descriptor)

    def forget(self, numbers: Iterable[int]) -> None:
        """These have ended for good: what is kept is bounded by what is under way."""
        for number in numbers:
            self._under_way.pop(number, None)
            self.details.pop(number, None)

    @property
    def exhausted(self) -> bool:
        """Have all mini-batches been listed and taken?"""
        return self.ended and not self._ready

    @property
    def complete(self) -> bool:
        """Is ``listed`` the number of all there are?"""
        return self.exhausted and self.error is None

    def sync(self) -> None:
        """Have all that was taken in the manifest on disk, before anything of it is journalled.

        Raises
        ------
        OutputError
            The disk failed or is full.
        """
        self._manifest.sync(self.listed)

    def close(self) -> None:
        """End the listing; what was not taken is dropped."""
        self._closed.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join(LISTING_SECONDS)


def _listed(mini_batch: MiniBatch | None, descriptor: bytes) -> _Listed:
    return (None, descriptor, "") if mini_batch is None else (mini_batch.items, descriptor, mini_batch.detail)
