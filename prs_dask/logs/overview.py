"""job_progress_overview.<yyyymmddhh>.txt: a line a minute, and one at each change of state or stage.

A new file begins with each UTC day; its name tells the hour in which it begins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from prs_dask.logs.due import Due
from prs_dask.logs.lines import LineFormat
from prs_dask.logs.log_files import LogFiles
from prs_dask.logs.places import OVERVIEW
from prs_dask.logs.summary import Progress, format_progress

__all__ = ["Overview"]

_EVERY = 60.0


class Overview:
    """Decides when a line is due, and in which file it goes."""

    def __init__(self, files: LogFiles, lines: LineFormat) -> None:
        self._files = files
        self._lines = lines
        self._day = ""
        self._name = ""
        self._due = Due(_EVERY)

    def update(self, progress: Progress, now: float) -> None:
        """Write a line if one is due; ``now`` in seconds since the epoch."""
        if self._due(progress, now):
            self.line(format_progress(progress), now, event="progress", fields=asdict(progress))

    def line(
        self,
        text: str,
        now: float,
        *,
        event: str = "note",
        level: str = "INFO",
        fields: Mapping[str, Any] | None = None,
    ) -> None:
        """Write a line that is always due."""
        moment = datetime.fromtimestamp(now, UTC)
        if f"{moment:%Y%m%d}" != self._day:
            self._day = f"{moment:%Y%m%d}"
            self._name = OVERVIEW.format(hour=f"{moment:%Y%m%d%H}")
        line = self._lines.line("overview", text, now, event=event, level=level, fields=fields)
        self._files.append(self._name, line)
