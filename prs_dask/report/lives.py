"""When worker processes were started, were ready and ended: so far, as their attempts tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from prs_dask.logs.roll_up import Process, Sums

__all__ = ["Life", "lives_of"]


class Life(NamedTuple):
    """One worker process; folded seconds, ``start <= ready <= end``."""

    start: float
    ready: float
    end: float


def lives_of(processes: Mapping[Process, Sums]) -> dict[Process, Life]:
    """Of every process that ended an attempt: from its first attempt to the end of its last one.

    Parameters
    ----------
    processes
        Sums of their attempts, in folded seconds.
    """
    return {process: Life(sums.first, sums.first, sums.last) for process, sums in processes.items() if process[1] >= 0}
