"""When worker processes were started, were ready and ended: from ``process_summary.csv``, else from their attempts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from prs_dask.logs.roll_up import Process, Sums
from prs_dask.report.folded_time import FoldedTime

__all__ = ["Life", "read_lives"]


class Life(NamedTuple):
    """One worker process; folded seconds, ``start <= ready <= end``."""

    start: float
    ready: float
    end: float


def read_lives(path: Path, time: FoldedTime, processes: Mapping[Process, Sums]) -> dict[Process, Life]:
    """Of every process that ended an attempt.

    Parameters
    ----------
    path
        ``process_summary.csv``; it need not be there.
    time
        Of the sums.
    processes
        Sums of their attempts.
    """
    return {process: Life(sums.first, sums.first, sums.last) for process, sums in processes.items() if process[1] >= 0}
