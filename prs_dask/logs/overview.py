"""job_progress_overview.<yyyymmddhh>.txt: a line a minute, and one at each change of state or stage.

A new file begins with each UTC day; its name tells the hour in which it begins.
"""

from __future__ import annotations

from datetime import UTC, datetime

from prs_dask.logs.due import Due
from prs_dask.logs.log_files import LogFiles
from prs_dask.logs.places import OVERVIEW
from prs_dask.logs.summary import Progress, format_progress
from prs_dask.logs.text import plain, utc_text

__all__ = ["Overview"]

_EVERY = 60.0


class Overview:
    """Decides when a line is due, and in which file it goes."""

    def __init__(self, files: LogFiles) -> None:
        self._files = files
        self._day = ""
        self._name = ""
        self._due = Due(_EVERY)

    def update(self, progress: Progress, now: float) -> None:
        """Write a line if one is due; ``now`` in seconds since the epoch."""
        if self._due(progress, now):
            self.line(format_progress(progress), now)

    def line(self, text: str, now: float) -> None:
        """Write a line that is always due."""
        moment = datetime.fromtimestamp(now, UTC)
        if f"{moment:%Y%m%d}" != self._day:
            self._day = f"{moment:%Y%m%d}"
            self._name = OVERVIEW.format(hour=f"{moment:%Y%m%d%H}")
        body = plain(text).rstrip("\n").replace("\n", "\n    ")
        self._files.append(self._name, f"{utc_text(now)} {body}\n".encode("utf-8", "backslashreplace"))
