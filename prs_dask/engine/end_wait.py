"""How long the end waits for what workers still send, and what is said of logs where it waits no longer. Pure.

::

    the end ──▶ what came last of files and logs ──(so long nothing comes)──▶ too late

Files of results are waited for as long as they come. Logs are too, but no longer than `LOGS_SECONDS`: something that a
script has left behind may print for ever. Samples of a resource monitor tell only that a worker lives.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from prs_dask.quantities import format_seconds

__all__ = ["LOGS_SECONDS", "EndWait"]

LOGS_SECONDS = 600.0
"""So long after the end logs that still come put it off."""


class EndWait:
    """Feed it what comes; ``now`` is of a monotonic clock.

    Parameters
    ----------
    seconds
        So long nothing may come; 0 from any thread ends the waiting.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._begun = math.inf
        self._file_came_at = self._log_came_at = -math.inf

    def begin(self, now: float) -> None:
        """The step run has ended, and workers are told."""
        self._begun = now

    def came(self, entries: Iterable[Mapping[str, Any]], now: float) -> None:
        """What a round has brought."""
        for entry in entries:
            if entry["kind"] == "file":
                self._file_came_at = now
            elif entry["kind"] == "log" and entry["stream"] != "usage":
                self._log_came_at = now

    def is_late(self, now: float) -> bool:
        """Is it too late for what has not come?"""
        last_log = min(self._log_came_at, self._begun + LOGS_SECONDS)
        return now > max(self._begun, self._file_came_at, last_log) + self.seconds

    def missing_logs(self, workers: int, named: Sequence[str], now: float) -> str:
        """What to say of logs that did not all come.

        Parameters
        ----------
        workers
            So many had more to send, or may have; none: it lay with the scheduler.
        named
            Some of them.
        """
        who = f"{workers:,} worker{'s' * (workers != 1)}" if workers else "the scheduler"
        more = [f"{workers - len(named):,} more"] if workers > len(named) else []
        names = f" ({', '.join((*named, *more))})" if named else ""
        after = format_seconds(max(0.0, now - self._begun))
        return (
            f"not all have come: {who} still had some to send {after} after the end, and the wait was given up{names}"
        )
