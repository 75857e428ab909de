"""When worker processes were started, were ready and ended: as their events tell, and their attempts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from prs_dask.logs.process_lives import Life as ToldLife
from prs_dask.logs.roll_up import Process, Sums
from prs_dask.report.folded_time import FoldedTime

__all__ = ["Life", "busy_times", "lives_of"]

Floats = NDArray[np.float64]


class Life(NamedTuple):
    """One worker process; folded seconds, ``start <= ready <= end``.

    One that was never ready has ``ready`` at its end, and its whole life is a start. ``early``: it ended, or failed to
    start, while the step run went on.
    """

    start: float
    ready: float
    end: float
    early: bool = False


def lives_of(
    processes: Mapping[Process, Sums], told: Mapping[Process, ToldLife], time: FoldedTime
) -> dict[Process, Life]:
    """Of every process that is known.

    Parameters
    ----------
    processes
        Sums of attempts, in folded seconds. Where nothing else is known, a process lived from its first attempt to the
        end of its last one.
    told
        What their events have told.
    time
        Folds what was told.
    """
    nothing = Sums()
    folded = dict(zip(told, time.of(_moments(told)).tolist(), strict=True))
    lives = {}
    for process in dict.fromkeys((*told, *processes)):
        sums = processes.get(process, nothing)
        started, ready, ended = folded.get(process, (math.nan,) * 3)
        known = [at for at in (started, ready, ended, sums.first, sums.last) if math.isfinite(at)]
        if process[1] < 0 or not known:
            continue
        start, end = min(known), max(known)
        begun = ready if math.isfinite(ready) else sums.first if math.isfinite(sums.first) else end
        early = process in told and told[process].ended_early
        lives[process] = Life(start, min(max(start, begun), end), end, early)
    return lives


def busy_times(told: Mapping[Process, ToldLife]) -> Floats:
    """Times since the epoch in which processes were starting or ending: rows of (begin, end), in order."""
    started, ready, ended = _moments(told).T
    until = np.fmax(started, np.where(np.isnan(ready), ended, ready))
    times = np.concatenate([np.stack([started, until], axis=1), np.stack([ended, ended], axis=1)])
    times = times[np.isfinite(times).all(axis=1)]
    return np.asarray(times[np.argsort(times[:, 0], kind="stable")])


def _moments(told: Mapping[Process, ToldLife]) -> Floats:
    lives = [[life.started, life.ready, life.ended] for life in told.values()]
    return np.array(lives, np.float64).reshape(len(lives), 3)
