"""Sets of mini-batch ids as ranges: in memory, and as text like ``0-99,105``.

Mini-batches finish nearly in input order, so what is finished is a few ranges however many
they are: a million ids take as much room as ten. Ranges are pairs (start, stop), stop not
included; in text both ends are included, as people write them. Pure.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

__all__ = ["IdSet", "decode_ranges", "encode_ranges", "to_ranges"]


def to_ranges(ids: Iterable[int]) -> list[tuple[int, int]]:
    """Ranges over ids, given in any order.

    Raises
    ------
    ValueError
        An id below 0, or one that stands there twice.
    """
    ordered = sorted(ids)
    if not ordered:
        return []
    if ordered[0] < 0:
        raise ValueError(f"a mini-batch id below 0: {ordered[0]}")
    start, count = ordered[0], len(ordered)
    if ordered[-1] - start == count - 1 and len(set(ordered)) == count:
        return [(start, start + count)]
    ranges: list[tuple[int, int]] = []
    stop = start
    for number in ordered:
        if number == stop:
            stop += 1
            continue
        if number < stop:
            raise ValueError(f"mini-batch {number} stands there twice")
        ranges.append((start, stop))
        start, stop = number, number + 1
    ranges.append((start, stop))
    return ranges


def encode_ranges(ranges: Iterable[tuple[int, int]]) -> str:
    """Text of ranges: ``[(0, 100), (105, 106)]`` is ``"0-99,105"``."""
    return ",".join([str(start) if stop - start == 1 else f"{start}-{stop - 1}" for start, stop in ranges])


def decode_ranges(text: str) -> list[tuple[int, int]]:
    """The ranges that `encode_ranges` was given.

    Raises
    ------
    ValueError
        The text is no list of ranges that ascend.
    """
    ranges: list[tuple[int, int]] = []
    last = 0
    for part in text.split(",") if text else ():
        first, dash, end = part.partition("-")
        if not (first.isdecimal() and first.isascii() and (not dash or (end.isdecimal() and end.isascii()))):
            raise ValueError(f"no range of ids: {part!r}")
        start = int(first)
        stop = int(end) + 1 if dash else start + 1
        if start < last or stop <= start:
            raise ValueError(f"ranges of ids must ascend: {text[:80]!r}")
        ranges.append((start, stop))
        last = stop
    return ranges


class IdSet:
    """A set of ids that grows range by range and costs memory by ranges, not by ids."""

    __slots__ = ("_count", "_starts", "_stops")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        self._count = 0
        for start, stop in ranges:
            self.add(start, stop)

    def add(self, start: int, stop: int) -> None:
        """Add ``start <= id < stop``; ids that are in already stay in once."""
        if stop <= start:
            return
        starts, stops = self._starts, self._stops
        # Every range that touches the new one melts into it.
        low = bisect_left(stops, start)
        high = bisect_right(starts, stop)
        if low < high:
            self._count -= sum(stops[low:high]) - sum(starts[low:high])
            start, stop = min(start, starts[low]), max(stop, stops[high - 1])
        starts[low:high] = [start]
        stops[low:high] = [stop]
        self._count += stop - start

    def discard(self, start: int, stop: int) -> None:
        """Take ``start <= id < stop`` out, as far as they are in."""
        if stop <= start:
            return
        starts, stops = self._starts, self._stops
        low = bisect_right(stops, start)
        high = bisect_left(starts, stop)
        if low >= high:
            return
        left = [] if starts[low] >= start else [(starts[low], start)]
        right = [] if stops[high - 1] <= stop else [(stop, stops[high - 1])]
        self._count -= sum(stops[low:high]) - sum(starts[low:high])
        self._count += sum(b - a for a, b in left + right)
        starts[low:high] = [a for a, _ in left + right]
        stops[low:high] = [b for _, b in left + right]

    def overlap(self, start: int, stop: int) -> int | None:
        """The lowest id of ``start <= id < stop`` that is in the set, or None."""
        place = bisect_right(self._stops, start)
        if place == len(self._starts):
            return None
        found = max(start, self._starts[place])
        return found if found < stop else None

    def ranges(self) -> list[tuple[int, int]]:
        """All of it, ascending."""
        return list(zip(self._starts, self._stops, strict=True))

    def __contains__(self, number: int) -> bool:
        return self.overlap(number, number + 1) is not None

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[int]:
        for start, stop in zip(self._starts, self._stops, strict=True):
            yield from range(start, stop)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IdSet) and self.ranges() == other.ranges()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"IdSet({encode_ranges(self.ranges())!r})"
