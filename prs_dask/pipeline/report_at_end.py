"""report.html at the end of a step run: written when the outcome is known to all, and left out where nobody waits.

What it costs (a second or two, most of it importing bokeh) lies behind the end: the output has its name, the logs are
complete and the lock is released before it begins. Nothing that goes wrong with it changes the result.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from prs_dask.logs.run_folder import RunFolder
from prs_dask.report.writing import write_report_apart, writes_reports

__all__ = ["ReportAtEnd"]


class ReportAtEnd:
    """The report that a step run leaves.

    Parameters
    ----------
    folder
        The run folder.
    note
        Is told when it was written, or why it was not.

    Attributes
    ----------
    path
        ``report.html`` once it was written; None before, and where it was not.
    """

    def __init__(self, folder: RunFolder, note: Callable[[str], None]) -> None:
        self.path: Path | None = None
        self._folder = folder
        self._note = note
        self._given_up = threading.Event()
        self._over = threading.Event()

    def write(self) -> None:
        """Write it, where it can be and is still wanted."""
        try:
            if not self._given_up.is_set() and writes_reports():
                write_report_apart(self._folder.path, self._given_up.is_set)
                self.path = self._folder.report
                self._note("report.html is written")
        except Exception as error:
            self._note(f"no report.html: {error}")
        finally:
            self._over.set()

    def leave_out(self) -> None:
        """There is none to be written."""
        self._over.set()

    def give_up(self) -> None:
        """Nobody waits for it: what is under way is ended, and nothing is left of it."""
        self._given_up.set()

    def is_over(self, seconds: float | None = 0.0) -> bool:
        """Is there nothing more to wait for? Waits so long for that; None: without limit."""
        return self._over.wait(seconds)
