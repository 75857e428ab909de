"""Ctrl-C while a step run is under way: once cancels in order, twice ends at once. So does a terminal that is closed.

A KeyboardInterrupt could rise anywhere, between a row's writing and its journal line as well. So the
signals are counted here, and looked at where it is safe.
"""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

__all__ = ["Interrupts"]

GRACE_SECONDS = 2.0
"""So long nobody has to look before there is a step run; then what is waited for, such as a store, is interrupted."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Counts SIGINT, SIGTERM and SIGHUP (but under ``nohup``) while it is entered.

    Attributes
    ----------
    count
        How many have come.
    obeyed
        How many of them whoever watches has obeyed.
    patience
        So many are counted; the next one raises KeyboardInterrupt, for whoever waits for what never comes. While it is
        1, the first one does, too, two seconds after it came.
    """

    def __init__(self) -> None:
        self.count = self.obeyed = 0
        self.patience = 1
        self._before: dict[int, Any] = {}
        self._terminals: list[int] = []

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._terminals = [descriptor for descriptor in (1, 2) if os.isatty(descriptor)]
            heeded = [number for number in _SIGNALS if number != signal.SIGHUP or not _hang_up_is_ignored()]
            self._before = {number: signal.signal(number, self._counted) for number in heeded}
            self._before[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._overdue)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._before:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _counted(self, number: int, frame: FrameType | None) -> None:
        signal.setitimer(signal.ITIMER_REAL, GRACE_SECONDS)
        if number == signal.SIGHUP:
            self._let_go_of_terminal()
            self.count = max(self.count, 1)  # shells send it twice
            return
        self.count += 1
        if self.count > self.patience:
            raise KeyboardInterrupt

    def _overdue(self, number: int, frame: FrameType | None) -> None:
        if self.patience == 1:  # nobody watches yet
            raise KeyboardInterrupt

    def _let_go_of_terminal(self) -> None:
        """Every word to a terminal that is gone would be an OSError."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for descriptor in self._terminals:
            os.dup2(nowhere, descriptor)
        os.close(nowhere)


def _hang_up_is_ignored() -> bool:
    return signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
