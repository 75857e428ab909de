"""Time without stretches in which nothing ran: a step run that was resumed days later is drawn in one piece. Pure."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Fold", "FoldedTime"]

Floats = NDArray[np.float64]


class Fold(NamedTuple):
    """Where time is left out: nothing ran from ``start`` to ``start + seconds``, in seconds since the epoch."""

    start: float
    seconds: float


class FoldedTime:
    """Seconds since what is seen first began, without stretches of more than ``least`` seconds in which nothing ran.

    Parameters
    ----------
    least
        Seconds; a stretch is also left in when it is shorter than all that came before it.
    """

    def __init__(self, least: float = 300.0) -> None:
        self.begun: float | None = None
        self.folds: list[Fold] = []
        self._least = least
        self._end = -np.inf

    def see(self, starts: ArrayLike, ends: ArrayLike) -> None:
        """Attempts that are known now, roughly in the order of time; see them before `of` is asked for theirs."""
        start, end = np.asarray(starts, np.float64), np.asarray(ends, np.float64)
        if not start.size:
            return
        if self.begun is None:
            self.begun = float(start.min())
        order = np.argsort(start, kind="stable")
        before = np.maximum.accumulate(np.concatenate([[max(self._end, self.begun)], end[order]]))
        for at in np.flatnonzero(start[order] - before[:-1] > self._least):
            since, until = float(before[at]), float(start[order][at])
            if until - since > self.of(since):
                self.folds.append(Fold(since, until - since))
        self._end = float(before[-1])

    def of(self, times: ArrayLike) -> Floats:
        """Times since the epoch, as folded seconds; what lies within a fold is where it is folded."""
        at = np.asarray(times, np.float64)
        folded = at - (self.begun or 0.0)
        for fold in self.folds:
            folded = folded - np.clip(at - fold.start, 0.0, fold.seconds)
        return np.asarray(folded)

    def unfolded(self, seconds: float) -> float:
        """The time since the epoch of folded seconds; at a fold, the time after it."""
        time = (self.begun or 0.0) + seconds
        for fold in self.folds:
            if time >= fold.start:
                time += fold.seconds
        return time

    def ends_at(self) -> float:
        """Folded seconds at which the last attempt that was seen ended."""
        return float(self.of(self._end)) if self.begun is not None else 0.0
