"""When something is to be written: so often, and what tells of progress at each change of state or stage too. Pure.

Times are seconds since the epoch, of a clock that may be set while the step run goes on: back by an hour, what was
written an hour from now is no reason to wait that long.
"""

from __future__ import annotations

import math

from prs_dask.logs.summary import Progress

__all__ = ["Due", "Every"]


class Every:
    """Due once in so many seconds; ask it at every chance."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._last = -math.inf

    def __call__(self, now: float) -> bool:
        """Is it due? Then it counts as done."""
        if self._last <= now < self._last + self._seconds:
            return False
        self._last = now
        return True

    def due_now(self) -> None:
        """It is due when it is asked next."""
        self._last = -math.inf


class Due:
    """The same for progress.

    Parameters
    ----------
    every
        Seconds between two times without a change.
    """

    def __init__(self, every: float) -> None:
        self._every = Every(every)
        self._told: tuple[str, str] | None = None

    def __call__(self, progress: Progress, now: float) -> bool:
        """Is it due? Then it counts as written."""
        state = (progress.state, progress.stage)
        if state != self._told:
            self._told = state
            self._every.due_now()
        return self._every(now)
