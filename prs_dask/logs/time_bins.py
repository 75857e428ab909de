"""Amounts over time in a bounded number of bins: where they do not suffice, neighbours become one. Pure.

Every bin is ``width`` seconds wide, and the width only ever doubles, so that no amount is lost or counted twice
whatever order the times come in. Several rows (processes, say) share one scale of time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["TimeBins"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class TimeBins:
    """``kinds`` amounts for each of ``rows`` rows in each bin.

    Parameters
    ----------
    most
        Bins, at most; even.
    kinds, rows
        How many. Memory is ``8 * most * kinds * rows`` bytes, for ever.
    finest
        Seconds; the width of a bin to begin with.

    Attributes
    ----------
    width
        Seconds.
    """

    def __init__(self, most: int, kinds: int, rows: int = 1, finest: float = 2.0**-10) -> None:
        self.width = finest
        self._most = most
        self._first: int | None = None  # number of the first bin: bin n begins at n * width
        self._last = 0
        self._amounts = np.zeros((kinds, rows, most))

    def count(self, kind: int, times: ArrayLike, amounts: ArrayLike, rows: ArrayLike = 0) -> None:
        """Add each amount to the bin that its time (seconds) is in; empty arrays are allowed."""
        at = np.asarray(times, np.float64)
        if at.size:
            self._reach(float(at.min()), float(at.max()))
            self._add(kind, self._bins(at), np.broadcast_to(np.asarray(amounts, np.float64), at.shape), rows)

    def spread(self, kind: int, starts: ArrayLike, seconds: ArrayLike, rows: ArrayLike = 0) -> None:
        """Add the seconds that each interval has in each bin; an interval has 0 seconds or more."""
        start, length = np.asarray(starts, np.float64), np.asarray(seconds, np.float64)
        if not start.size:
            return
        end = start + length
        self._reach(float(start.min()), float(end.max()))
        first, last = self._bins(start), self._bins(end)
        row = np.broadcast_to(np.asarray(rows, np.int64), start.shape)
        inside = first == last
        self._add(kind, first[inside], length[inside], row[inside])
        if inside.all():
            return
        across = ~inside
        start, end, first, last, row = start[across], end[across], first[across], last[across], row[across]
        origin = (self._first or 0) * self.width
        self._add(kind, first, origin + (first + 1) * self.width - start, row)
        self._add(kind, last, end - origin - last * self.width, row)
        # Whole bins between the two: a step up, a step down, and their running sum.
        steps = np.zeros((self._amounts.shape[1], self._most + 1))
        np.add.at(steps, (row, first + 1), self.width)
        np.add.at(steps, (row, last), -self.width)
        self._amounts[kind] += steps.cumsum(axis=1)[:, : self._most]

    @property
    def used(self) -> int:
        """How many bins there are, from the first to the last time that was given."""
        return 0 if self._first is None else self._last - self._first + 1

    @property
    def edges(self) -> Floats:
        """Where each bin begins, and where the last one ends: seconds, one more than there are bins."""
        return np.asarray(((self._first or 0) + np.arange(self.used + 1)) * self.width, np.float64)

    def amounts(self, kind: int, row: int | None = None) -> Floats:
        """A kind's amount in each bin, of a row or of all rows together."""
        found = self._amounts[kind].sum(axis=0) if row is None else self._amounts[kind, row]
        return np.array(found[: self.used])

    def of_rows(self, kind: int) -> Floats:
        """A kind's amounts: a line for each row, with each bin."""
        return np.array(self._amounts[kind, :, : self.used])

    def coarser(self, most: int) -> TimeBins:
        """The same amounts in at most so many bins."""
        copy = TimeBins(self._most, self._amounts.shape[0], self._amounts.shape[1], self.width)
        copy._first, copy._last, copy._amounts = self._first, self._last, self._amounts.copy()
        while copy.used > most:
            copy._double()
        return copy

    def _bins(self, times: Floats) -> Integers:
        numbers = np.floor(times / self.width).astype(np.int64) - (self._first or 0)
        return np.clip(numbers, 0, self._most - 1)

    def _add(self, kind: int, bins: Integers, amounts: Floats, rows: ArrayLike) -> None:
        count = self._amounts.shape[1]
        flat = np.asarray(rows, np.int64) * self._most + bins
        self._amounts[kind] += np.bincount(flat, amounts, count * self._most).reshape(count, self._most)

    def _reach(self, earliest: float, latest: float) -> None:
        """Have bins from the earliest to the latest time."""
        if self._first is None:
            self._first = self._last = int(np.floor(earliest / self.width))
        while True:
            low = min(int(np.floor(earliest / self.width)), self._first)
            high = max(int(np.floor(latest / self.width)), self._last)
            if high - low < self._most:
                break
            self._double()
        if low < self._first:
            self._amounts = np.roll(self._amounts, self._first - low, axis=2)
        self._first, self._last = low, high

    def _double(self) -> None:
        """Two neighbours become one. A bin begins at a multiple of its width, so an odd first one is alone."""
        first = self._first or 0
        amounts = np.pad(self._amounts, ((0, 0), (0, 0), (first % 2, 2 - first % 2)))
        halved = amounts[:, :, ::2] + amounts[:, :, 1::2]
        self._amounts = np.zeros_like(self._amounts)
        self._amounts[:, :, : halved.shape[2]] = halved[:, :, : self._most]
        self._first, self._last = first // 2, self._last // 2
        self.width *= 2
