"""How fast it goes and how long it will take; the clock is an argument."""

from __future__ import annotations

from collections import deque

__all__ = ["ProgressMeter"]

WINDOW_SECONDS = 30.0
SAMPLE_SECONDS = 0.5


class ProgressMeter:
    """Rate of mini-batches that ended for good, over the last half minute.

    Failed attempts do not count as progress, so retries lengthen the time left as they should.
    """

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def add(self, now: float, ended: int) -> None:
        """``ended`` mini-batches in all have succeeded or failed for good by ``now`` (seconds)."""
        if self._samples and now - self._samples[-1][0] < SAMPLE_SECONDS and len(self._samples) > 1:
            self._samples[-1] = (self._samples[-1][0], ended)
            return
        self._samples.append((now, ended))
        while now - self._samples[0][0] > WINDOW_SECONDS and len(self._samples) > 2:
            self._samples.popleft()

    def rate(self, now: float) -> float:
        """Mini-batches a second, 0 before anything is known."""
        if not self._samples:
            return 0.0
        begun, first = self._samples[0]
        return (self._samples[-1][1] - first) / (now - begun) if now > begun else 0.0

    def seconds_left(self, now: float, ended: int, total: int | None) -> float | None:
        """Until the last mini-batch ends; None while the total or the rate is unknown."""
        rate = self.rate(now)
        if total is None or rate <= 0:
            return None
        return max(0, total - ended) / rate
