"""Which items of bisected mini-batches are finished, which have failed, and which are left. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from prs_dask.mini_batches import Part
from prs_dask.output.id_ranges import IdSet

__all__ = ["ItemRanges"]


@dataclass(slots=True)
class ItemRanges:
    """Items of one bisected mini-batch, numbered from 0.

    Parameters
    ----------
    items
        How many it holds.
    finished, failed
        Those of parts that succeeded, and of parts that failed for good.
    """

    items: int
    finished: IdSet = field(default_factory=IdSet)
    failed: IdSet = field(default_factory=IdSet)

    def add(self, part: Part, *, failed: bool) -> None:
        """A part has ended.

        Raises
        ------
        ValueError
            Items of it had ended before, or it belongs to a mini-batch of another size.
        """
        if part.of != self.items or not 0 <= part.start < part.stop <= part.of:
            raise ValueError(f"{part} is no part of a mini-batch of {self.items} items")
        for done in (self.finished, self.failed):
            if (item := done.overlap(part.start, part.stop)) is not None:
                raise ValueError(f"item {item} of mini-batch {part.mini_batch} was committed before")
        (self.failed if failed else self.finished).add(part.start, part.stop)

    def copy(self) -> ItemRanges:
        """One that changes apart from this."""
        return ItemRanges(self.items, IdSet(self.finished.ranges()), IdSet(self.failed.ranges()))

    @property
    def is_complete(self) -> bool:
        """Have all items ended?"""
        return len(self.finished) + len(self.failed) == self.items

    def left(self) -> tuple[tuple[int, int], ...]:
        """Ranges of the items that have not ended, ascending."""
        left = IdSet([(0, self.items)])
        for start, stop in _all_of(self.finished, self.failed):
            left.discard(start, stop)
        return tuple(left.ranges())


def _all_of(*sets: IdSet) -> Iterable[tuple[int, int]]:
    return [a_range for one in sets for a_range in one.ranges()]
