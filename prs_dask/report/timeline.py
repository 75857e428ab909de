"""What each process did when: every attempt while they are few, shares of time in bins when they are many. Pure.

Memory is bounded whatever the number of attempts and processes: those beyond `MOST_LANES` are in the whole only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prs_dask.logs.roll_up import Process
from prs_dask.logs.time_bins import TimeBins

__all__ = ["DOING", "Doing", "ExactAttempts", "Timeline"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Doing:
    """What a process spends time on; ``color`` of CSS, to be told apart on white and black."""

    name: str
    explained: str
    color: str


DOING = (
    Doing("run()", "in run(), of attempts that succeeded", "#3b82f6"),
    Doing("failed run()", "in run(), of attempts that failed", "#ef4444"),
    Doing("reading", "reading mini-batches", "#14b8a6"),
    Doing("rows and the rest", "turning results into rows, and sending them", "#a78bfa"),
    Doing("starting", "starting processes, importing the script, init()", "#f59e0b"),
    Doing("waiting", "ready, without a mini-batch", "#94a3b8"),
)
RUN, FAILED, READ, REST, STARTING, WAITING = range(6)
MOST_EXACT = 2000
MOST_LANES = 256
LANE_BINS = 256


@dataclass(frozen=True, slots=True)
class ExactAttempts:
    """Attempts one by one, in arrays of one length; times are folded seconds."""

    lanes: NDArray[np.int64]
    starts: Floats
    records: NDArray[Any]
    names: list[str]


class Timeline:
    """Feed it all attempts, then the lives of processes."""

    def __init__(self) -> None:
        self.lanes: dict[Process, int] = {}
        self.left_out: set[Process] = set()
        self.whole = TimeBins(1024, len(DOING))
        self.by_lane = TimeBins(LANE_BINS, len(DOING), MOST_LANES)
        self.count = 0
        self._exact: list[ExactAttempts] = []

    def add(
        self, processes: list[Process], index: NDArray[np.int64], starts: Floats, records: NDArray[Any], names: Any
    ) -> None:
        """Attempts.

        Parameters
        ----------
        processes, index
            The processes of this block, and for each attempt the place of its own among them.
        starts
            Folded seconds.
        records
            Of the type `prs_dask.logs.roll_up.RECORD`.
        names
            Called with a place in the block: how the mini-batch is called.
        """
        lane_of = np.array([self._lane(process) for process in processes], np.int64)
        lanes = lane_of[index]
        read, run = records["read"].astype(np.float64), records["run"].astype(np.float64)
        rest = np.maximum(records["elapsed"] - read - run, 0.0)
        good = records["category"] == 0
        self._spread(READ, starts, read, lanes)
        self._spread(RUN, (starts + read)[good], run[good], lanes[good])
        self._spread(FAILED, (starts + read)[~good], run[~good], lanes[~good])
        self._spread(REST, starts + read + run, rest, lanes)
        self.count += len(records)
        if self.count <= MOST_EXACT:
            self._exact.append(ExactAttempts(lanes, starts, records, [names(at) for at in range(len(records))]))
        else:
            self._exact.clear()

    def add_lives(self, processes: list[Process], starts: ArrayLike, ready: ArrayLike, ends: ArrayLike) -> None:
        """When each process was started, was ready and ended, in folded seconds; call once, after all attempts."""
        start, begun, end = (np.asarray(times, np.float64) for times in (starts, ready, ends))
        lanes = np.array([self._lane(process) for process in processes], np.int64)
        self._spread(STARTING, start, np.maximum(begun - start, 0.0), lanes)
        # First the whole time from ready to end counts as waiting, then what was done in it is taken off.
        self._spread(WAITING, begun, np.maximum(end - begun, 0.0), lanes)

    def waiting(self, bins: TimeBins, row: int | None = None) -> Floats:
        """Seconds in each bin in which processes were ready and had nothing to do."""
        busy = sum((bins.amounts(kind, row) for kind in (RUN, FAILED, READ, REST)), np.zeros(bins.used))
        return np.asarray(np.maximum(bins.amounts(WAITING, row) - busy, 0.0))

    def seconds(self) -> list[float]:
        """All processes' seconds, for each of `DOING`."""
        found = [float(self.whole.amounts(kind).sum()) for kind in range(len(DOING))]
        found[WAITING] = max(0.0, found[WAITING] - sum(found[:STARTING]))
        return found

    @property
    def exact(self) -> ExactAttempts | None:
        """Every attempt; None where they are too many to be drawn one by one."""
        if not self._exact:
            return None
        parts = self._exact
        return ExactAttempts(
            np.concatenate([part.lanes for part in parts]),
            np.concatenate([part.starts for part in parts]),
            np.concatenate([part.records for part in parts]),
            [name for part in parts for name in part.names],
        )

    def _spread(self, kind: int, starts: Floats, seconds: Floats, lanes: NDArray[np.int64]) -> None:
        self.whole.spread(kind, starts, seconds)
        drawn = lanes >= 0
        self.by_lane.spread(kind, starts[drawn], seconds[drawn], lanes[drawn])

    def _lane(self, process: Process) -> int:
        """Its lane, or -1 where there are too many, or where process and node were lost."""
        lane = self.lanes.get(process, -1)
        if lane >= 0 or process[1] < 0:
            return lane
        if len(self.lanes) >= MOST_LANES:
            if len(self.left_out) < 100_000:
                self.left_out.add(process)
            return -1
        self.lanes[process] = len(self.lanes)
        return self.lanes[process]
