"""``on_progress``: a program's function that is told how far a step run is."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable

from prs_dask.logs.summary import Progress

__all__ = ["OnProgress", "ProgressNews"]

OnProgress = Callable[[Progress], object]

SECONDS_BETWEEN = 0.5


class ProgressNews:
    """Calls a function from a thread of its own: at most twice a second, and once at the end.

    A function that is slow is called less often; one that hangs is left alone. Neither holds up the step run.

    Parameters
    ----------
    call
        The function.
    progress
        How far it is, now.
    ended
        Set when the step run has ended.
    complain
        Is told, once, what the function raised; it is called on.
    """

    def __init__(
        self,
        call: OnProgress,
        progress: Callable[[], Progress],
        ended: threading.Event,
        complain: Callable[[str], None],
    ) -> None:
        self._call = call
        self._progress = progress
        self._ended = ended
        self._complain: Callable[[str], None] | None = complain
        self._thread = threading.Thread(target=self._main, name="prs-on-progress", daemon=True)
        self._thread.start()

    def join(self, seconds: float) -> None:
        """Wait for the last call; not where that very function waits."""
        if threading.current_thread() is not self._thread:
            self._thread.join(seconds)

    def _main(self) -> None:
        ended = False
        while not ended:
            ended = self._ended.is_set()
            self._tell()
            if not ended:
                self._ended.wait(SECONDS_BETWEEN)

    def _tell(self) -> None:
        try:
            self._call(self._progress())
        except BaseException:  # SystemExit, too: the thread is ours
            complain, self._complain = self._complain, None
            if complain is not None:
                complain(f"on_progress raised, which is told once; it is called on:\n{traceback.format_exc()}")
