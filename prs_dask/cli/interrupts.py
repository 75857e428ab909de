"""Ctrl-C while a step run is under way: once cancels in order, twice ends at once.

A KeyboardInterrupt could rise anywhere, between a row's writing and its journal line as well. So the
signals are counted here, and looked at where it is safe.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

__all__ = ["Interrupts"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Counts SIGINT and SIGTERM while it is entered.

    Attributes
    ----------
    count
        How many have come.
    patience
        So many are counted; the next one raises KeyboardInterrupt, for whoever waits for what never comes.
    """

    def __init__(self) -> None:
        self.count = 0
        self.patience = 1
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._counted) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _counted(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.count > self.patience:
            raise KeyboardInterrupt
