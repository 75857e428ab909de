"""Poison isolation: a mini-batch that used up its tries is halved until its bad items are alone.

::

    7, three tries ──▶ 7[0:4] succeeded
                   └─▶ 7[4:8] ──▶ 7[4:6] ──▶ 7[4:5] succeeded
                              │          └─▶ 7[5:6] three tries: failed, one item
                              └─▶ 7[6:8] succeeded

A part of more than one item has one try before it is halved, a single item as many as a mini-batch. Halves are
tried before anything else, smaller ones first, so that few parts are open at a time and the bad items count soon.
With one bad item of n that is 2 log2(n) attempts more, and the other tries of the item; with all of them bad
n - 2 parts and the tries of n items, unless a threshold ends the step run before.

Never halved is

- what lost its worker: that says nothing about items;
- a table that could not be read: each half would be read from the same bytes. It has all its tries, and fails whole;
- the result of a query: it may come in another order when it is asked for again.

The mini-batch counts as failed from the moment that one of its items has failed for good, and as succeeded when
all of them have ended without that.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from prs_dask.attempts.records import AttemptRecord, Category
from prs_dask.mini_batches import BisectedMiniBatch, FileMiniBatch, Part, QueryMiniBatch, decode, encode

__all__ = ["FIRST_PART", "Bisected", "PartlyDone", "halves_of"]

FIRST_PART = 1 << 48
"""Parts have numbers from here on between scheduler and workers; mini-batches have smaller ones."""

_NEVER = frozenset({Category.SUCCEEDED, Category.WORKER_LOST, Category.UNSAFE_CUT})


def halves_of(
    number: int, part: Part | None, items: int | None, descriptor: bytes, record: AttemptRecord
) -> list[tuple[Part, bytes]]:
    """The halves of what has failed so, with their descriptors; none where halving cannot help.

    Parameters
    ----------
    number
        The mini-batch's id, where ``part`` is None.
    items
        How many items it holds; None where that is not known.
    record
        Its last attempt.
    """
    if record.category in _NEVER:
        return []
    whole = part if part is not None else Part(number, 0, items or 0, items or 0)
    if whole.items < 2:
        return []
    mini_batch = decode(descriptor)
    source = mini_batch.source if isinstance(mini_batch, BisectedMiniBatch) else mini_batch
    was_read = record.items > 0 and record.category != Category.LOAD_ERROR
    if isinstance(source, QueryMiniBatch) or not (was_read or isinstance(source, FileMiniBatch)):
        return []
    return [(half, encode(BisectedMiniBatch.of(mini_batch, half))) for half in whole.halves()]


@dataclass(frozen=True, slots=True)
class PartlyDone:
    """What an earlier part of the step run has left of a bisected mini-batch.

    Parameters
    ----------
    items
        How many it holds in all.
    left
        Ranges of items (start, stop) that have not ended.
    failed
        Has one of the others failed for good, so that it counts as failed already?
    """

    items: int
    left: tuple[tuple[int, int], ...]
    failed: bool


@dataclass(slots=True)
class _Whole:
    open: int
    failed: bool = False


class Bisected:
    """The mini-batches whose parts have not all ended. One that has is forgotten."""

    def __init__(self) -> None:
        self._open: dict[int, _Whole] = {}
        self._last = FIRST_PART - 1

    def __bool__(self) -> bool:
        return bool(self._open)

    def begin(self, mini_batch: int, items: int, *, failed: bool = False) -> None:
        """So many items of a mini-batch are tried in parts from now on."""
        self._open[mini_batch] = _Whole(items, failed)

    def next_number(self) -> int:
        """The number of another part."""
        self._last += 1
        return self._last

    def ended(self, part: Part, *, failed: bool) -> tuple[int, int]:
        """A part has ended: how many mini-batches count as (succeeded, failed) by that, 0 or 1."""
        whole = self._open[part.mini_batch]
        whole.open -= part.items
        newly_failed = failed and not whole.failed
        whole.failed = whole.failed or failed
        if not whole.open:
            del self._open[part.mini_batch]
        return int(not whole.open and not whole.failed), int(newly_failed)

    def parts_left(self, mini_batch: int, done: PartlyDone) -> Iterable[Part]:
        """What is tried of a mini-batch that an earlier part of the step run had begun to bisect."""
        self.begin(mini_batch, sum(stop - start for start, stop in done.left), failed=done.failed)
        return [Part(mini_batch, start, stop, done.items) for start, stop in done.left]
