"""When something about progress is to be written: at each change of state or stage, else every so often. Pure."""

from __future__ import annotations

from prs_dask.logs.summary import Progress

__all__ = ["Due"]


class Due:
    """Ask it at every chance.

    Parameters
    ----------
    every
        Seconds between two times without a change.
    """

    def __init__(self, every: float) -> None:
        self._every = every
        self._told: tuple[str, str] | None = None
        self._next = 0.0

    def __call__(self, progress: Progress, now: float) -> bool:
        """Is it due? Then it counts as written; ``now`` in seconds since the epoch."""
        state = (progress.state, progress.stage)
        if state == self._told and now < self._next:
            return False
        self._told, self._next = state, now + self._every
        return True
