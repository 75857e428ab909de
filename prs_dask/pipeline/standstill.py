"""What a step run waits for while nothing of it runs, told once that has lasted. Pure."""

from __future__ import annotations

__all__ = ["TOLD_AFTER_SECONDS", "Standstill"]

TOLD_AFTER_SECONDS = 1.0
"""A process that starts at once, or a worker that is replaced, is no news."""


class Standstill:
    """Remembers since when the same has been waited for."""

    def __init__(self) -> None:
        self._now: tuple[str, float] = ("", 0.0)

    def update(self, waits_for: str, now: float) -> None:
        """``waits_for``: `Judge.waits_for`, empty while something runs; ``now``: seconds of any one clock."""
        if waits_for != self._now[0]:
            self._now = (waits_for, now)

    def stage(self, now: float) -> str:
        """The stage to show instead of ``running``; empty where it is that."""
        waits_for, since = self._now
        return waits_for if waits_for and now - since >= TOLD_AFTER_SECONDS else ""
