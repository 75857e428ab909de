"""How fast it goes and how long it will take; the clock is an argument."""

from __future__ import annotations

from collections import deque

__all__ = ["ProgressMeter"]

WINDOW_SECONDS = 30.0
SAMPLE_SECONDS = 0.5
LEAST_ENDED = 20
"""Where fewer end within the window, it is longer: mini-batches of minutes have a rate, too."""


class ProgressMeter:
    """Rate of mini-batches that ended for good, over the last half minute.

    Failed attempts do not count as progress, so retries lengthen the time left as they should.
    """

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def add(self, now: float, ended: int) -> None:
        """``ended`` mini-batches in all have succeeded or failed for good by ``now`` (seconds)."""
        samples = self._samples
        if len(samples) > 1 and ended == samples[-1][1]:
            return
        if len(samples) > 1 and now - samples[-1][0] < SAMPLE_SECONDS:
            samples[-1] = (samples[-1][0], ended)
            return
        samples.append((now, ended))
        while len(samples) > 2 and now - samples[0][0] > WINDOW_SECONDS and ended - samples[1][1] >= LEAST_ENDED:
            samples.popleft()

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
