"""sys/metrics/progress.csv: how far it was, a row every 10 s and one at each change of state or stage."""

from __future__ import annotations

from prs_dask.logs.due import Due
from prs_dask.logs.log_files import LogFiles
from prs_dask.logs.places import PROGRESS, PROGRESS_COLUMNS
from prs_dask.logs.summary import Progress
from prs_dask.logs.text import utc_text

__all__ = ["ProgressTable"]

_EVERY = 10.0
_HEADER = (",".join(PROGRESS_COLUMNS) + "\n").encode()


class ProgressTable:
    """Decides when a row is due.

    ``Total Tasks`` are mini-batches in all, empty while they are being listed; ``Scheduled Tasks`` those listed so far.
    Times are seconds; ``Estimated Remaining Time`` is empty where nobody can tell.
    """

    def __init__(self, files: LogFiles) -> None:
        self._files = files
        self._due = Due(_EVERY)

    def update(self, progress: Progress, now: float) -> None:
        """Write a row if one is due; ``now`` in seconds since the epoch."""
        if not self._due(progress, now):
            return
        total = "" if progress.total is None else progress.total
        left = "" if progress.seconds_left is None else f"{progress.seconds_left:.1f}"
        row = (
            f"{utc_text(now)},{total},{progress.created},{progress.succeeded},{progress.failed},"
            f"{progress.elapsed:.3f},{left}\n"
        )
        self._files.append(PROGRESS, row.encode(), _HEADER)
