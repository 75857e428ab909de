"""A timer for the logs: they are current whatever the driver is busy with.

The rounds of the engine are no clock. There are none while workers are started or an output is sorted, and one that
waits for a slow disk takes long.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["TICK_SECONDS", "Ticking"]

TICK_SECONDS = 0.5


class Ticking:
    """Calls a function again and again, in a thread of its own, until it is stopped.

    Parameters
    ----------
    tick
        The function.
    on_fault
        Is told, once, what it raised; it is called on.
    every
        Seconds between two calls.
    """

    def __init__(
        self, tick: Callable[[], None], on_fault: Callable[[BaseException], None], every: float = TICK_SECONDS
    ) -> None:
        self._tick = tick
        self._on_fault: Callable[[BaseException], None] | None = on_fault
        self._every = every
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._main, name="prs-ticking", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """No call is made, or goes on, after this."""
        self._stopped.set()
        self._thread.join()

    def _main(self) -> None:
        while not self._stopped.wait(self._every):
            try:
                self._tick()
            except Exception as error:
                on_fault, self._on_fault = self._on_fault, None
                if on_fault is not None:
                    on_fault(error)
