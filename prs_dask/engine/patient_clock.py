"""A clock that stands still while its process does.

Who was stopped (SIGSTOP, Ctrl-Z, a virtual machine that slept) has heard nobody meanwhile, and would hold
everybody else for dead when it goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["PatientClock"]

GAP_SECONDS = 5.0
"""A clock that is read twice a second, and was not for so long, has missed this time."""


class PatientClock:
    """Seconds that never go back, without those in which nobody could read them.

    Parameters
    ----------
    read
        The real clock.
    """

    def __init__(self, read: Callable[[], float] = time.monotonic) -> None:
        self._read = read
        self._last = read()
        self._missed = 0.0

    def __call__(self) -> float:
        now = self._read()
        if now - self._last > GAP_SECONDS:
            self._missed += now - self._last
        self._last = now
        return now - self._missed
