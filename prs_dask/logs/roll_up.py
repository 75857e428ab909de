"""What many attempts come to: sums for each process and node, run times, attempts over time, and the slowest. Pure.

The driver feeds it as attempts end, for ``process_summary.csv`` and ``node_summary.csv``; the report feeds it from the
table of attempts: one code, so the two agree. Attempts are added in blocks, by numpy; memory does not grow with their
number.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prs_dask.attempts.records import RECORD_SIZE, Category
from prs_dask.logs.text import NO_NODE
from prs_dask.logs.time_bins import TimeBins

__all__ = ["OTHER_PROCESSES", "RECORD", "Histogram", "Process", "RollUp", "Slow", "Sums"]

RECORD = np.dtype(
    [
        ("mini_batch", "<u8"),
        ("attempt", "<u2"),
        ("category", "u1"),
        ("final", "u1"),
        ("items", "<u4"),
        ("results", "<u4"),
        ("length", "<u8"),
        ("started", "<f8"),
        ("elapsed", "<f4"),
        ("read", "<f4"),
        ("run", "<f4"),
        ("cpu", "<f4"),
    ]
)
"""Of numpy, for packed `AttemptRecord`."""

Process = tuple[int, int]
"""A node's number and a process' number on it; -1 where both were lost."""

OTHER_PROCESSES = -2
"""Stands for the processes of a node that came after the most that are kept apart."""

BLOCK_BYTES = 4096 * RECORD_SIZE

Records = NDArray[Any]
Floats = NDArray[np.float64]


@dataclass(slots=True)
class Sums:
    """What the attempts of one process, or of many, come to.

    Parameters
    ----------
    attempts, succeeded, failed, retried, overtaken
        Attempts: all; those that succeeded; that failed for good; that failed and were tried again; that another one
        was faster than.
    items, succeeded_items, failed_items
        Of the attempts that decided their mini-batch.
    elapsed, read, run, cpu
        Seconds: in attempts at all, reading, inside ``run()``, processor time.
    first, last
        When the first attempt began and the last one ended, seconds since the epoch; infinite without any.
    """

    attempts: int = 0
    succeeded: int = 0
    failed: int = 0
    retried: int = 0
    overtaken: int = 0
    items: int = 0
    succeeded_items: int = 0
    failed_items: int = 0
    elapsed: float = 0.0
    read: float = 0.0
    run: float = 0.0
    cpu: float = 0.0
    first: float = math.inf
    last: float = -math.inf

    def add(self, other: Sums) -> None:
        """Count the other's attempts here too."""
        for name in _ADDED:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.first, self.last = min(self.first, other.first), max(self.last, other.last)


_ADDED = [one.name for one in fields(Sums) if one.name not in ("first", "last")]
_COUNTED = _ADDED[:8]


class Histogram:
    """Seconds by the logarithm: ``PER_DECADE`` bins for each power of ten, from 0.1 µs to 100 days."""

    PER_DECADE = 40
    LOWEST, HIGHEST = -7, 7

    def __init__(self) -> None:
        self.counts = np.zeros((self.HIGHEST - self.LOWEST) * self.PER_DECADE, np.int64)

    def add(self, seconds: ArrayLike) -> None:
        """Count times; what lies outside is counted in the first or last bin."""
        shortest = 10.0**self.LOWEST
        logarithms = np.log10(np.maximum(np.asarray(seconds, np.float64), shortest)) - self.LOWEST
        bins = np.minimum((logarithms * self.PER_DECADE).astype(np.int64), len(self.counts) - 1)
        self.counts += np.bincount(bins, minlength=len(self.counts))

    @property
    def edges(self) -> Floats:
        """Seconds at which the bins begin, and where the last one ends."""
        return np.asarray(10.0 ** (self.LOWEST + np.arange(len(self.counts) + 1) / self.PER_DECADE))

    def quantile(self, share: float) -> float:
        """Seconds that this share of all times does not exceed, exact to 3 %; nan without any."""
        total = int(self.counts.sum())
        if not total:
            return math.nan
        reached = self.counts.cumsum()
        place = int(np.searchsorted(reached, min(max(share * total, 0.5), total)))
        return float(10.0 ** (self.LOWEST + (place + 0.5) / self.PER_DECADE))


class Slow(NamedTuple):
    """One of the slowest attempts; ``name`` and ``detail`` are empty unless its feeder knew them."""

    elapsed: float
    mini_batch: int
    attempt: int
    category: int
    started: float
    read: float
    run: float
    process: Process
    name: str
    detail: str


@dataclass(slots=True)
class _Kept:
    """Blocks that wait to be added together."""

    places: list[tuple[int, int, int]] = field(default_factory=list)
    records: list[bytes] = field(default_factory=list)
    size: int = 0


class RollUp:
    """Sums of all attempts so far.

    Parameters
    ----------
    most_processes
        So many are kept apart; the attempts of others are summed up for their node, as `OTHER_PROCESSES`.
    slowest
        So many of the slowest attempts are kept.
    bins
        Of `over_time`, at most.
    """

    SUCCEEDED, FAILED, RETRIED, OVERTAKEN, ITEMS = range(5)
    """Kinds of `over_time`: attempts that ended, and items of those that were final."""

    def __init__(self, most_processes: int = 20_000, slowest: int = 20, bins: int = 2000) -> None:
        self._most_processes = most_processes
        self._most_slow = slowest
        self._processes: dict[Process, Sums] = {}
        self._succeeded, self._failed = Histogram(), Histogram()
        self._over_time = TimeBins(bins, 5)
        self._slow: list[Slow] = []
        self._kept = _Kept()

    # ---------------------------------------------------------------- feeding

    def add(self, node: int, process: int, records: bytes) -> None:
        """Attempts that ended in one process: packed `AttemptRecord`. Quick; they are gathered into blocks."""
        kept = self._kept
        kept.places.append((node, process, len(records) // RECORD_SIZE))
        kept.records.append(records)
        kept.size += len(records)
        if kept.size >= BLOCK_BYTES:
            self._add_kept()

    def add_block(
        self,
        nodes: ArrayLike,
        processes: ArrayLike,
        records: Records,
        describe: Callable[[int], tuple[str, str]] = lambda _: ("", ""),
    ) -> None:
        """Attempts in arrays of one length.

        Parameters
        ----------
        nodes, processes
            Where each ran.
        records
            Of the type `RECORD`.
        describe
            The name and what it holds of a mini-batch, by its place in the block.
        """
        if not len(records):
            return
        kinds = _kinds(records)
        self._succeeded.add(records["run"][kinds == self.SUCCEEDED])
        self._failed.add(records["run"][(kinds == self.FAILED) | (kinds == self.RETRIED)])
        self._add_over_time(records, kinds)
        nodes, processes = np.asarray(nodes, np.int64), np.asarray(processes, np.int64)
        self._add_slow(nodes, processes, records, describe)
        self._add_sums(nodes, processes, records, kinds)

    def _add_kept(self) -> None:
        kept, self._kept = self._kept, _Kept()
        if kept.places:
            nodes, processes, counts = np.array(kept.places, np.int64).T
            records = np.frombuffer(b"".join(kept.records), RECORD)
            self.add_block(np.repeat(nodes, counts), np.repeat(processes, counts), records)

    # ---------------------------------------------------------------- asking

    @property
    def processes(self) -> dict[Process, Sums]:
        """Sums by process, in the order in which they first ended an attempt."""
        self._add_kept()
        return self._processes

    @property
    def nodes(self) -> dict[int, Sums]:
        """Sums by node, in order of their numbers; -1 stands for attempts lost with their worker."""
        nodes: dict[int, Sums] = {}
        for (node, _), sums in sorted(self.processes.items()):
            nodes.setdefault(node, Sums()).add(sums)
        return nodes

    @property
    def total(self) -> Sums:
        """Of all attempts."""
        total = Sums()
        for sums in self.processes.values():
            total.add(sums)
        return total

    @property
    def run_times(self) -> tuple[Histogram, Histogram]:
        """Seconds inside ``run()``: of attempts that succeeded, and of those that did not."""
        self._add_kept()
        return self._succeeded, self._failed

    @property
    def over_time(self) -> TimeBins:
        """What ended when."""
        self._add_kept()
        return self._over_time

    @property
    def slowest(self) -> list[Slow]:
        """The slowest attempts, the slowest first."""
        self._add_kept()
        return sorted(self._slow, reverse=True)

    # ---------------------------------------------------------------- parts

    def _add_over_time(self, records: Records, kinds: NDArray[np.int64]) -> None:
        ends = records["started"] + records["elapsed"]
        for kind in (self.SUCCEEDED, self.FAILED, self.RETRIED, self.OVERTAKEN):
            self._over_time.count(kind, ends[kinds == kind], 1.0)
        final = records["final"] != 0
        self._over_time.count(self.ITEMS, ends[final], records["items"][final])

    def _add_slow(
        self,
        nodes: NDArray[np.int64],
        processes: NDArray[np.int64],
        records: Records,
        describe: Callable[[int], tuple[str, str]],
    ) -> None:
        elapsed = records["elapsed"]
        if len(self._slow) < self._most_slow:
            candidates: Sequence[int] = np.argsort(elapsed, kind="stable")[-self._most_slow :].tolist()
        else:
            candidates = np.flatnonzero(elapsed > self._slow[0].elapsed).tolist()
        if len(candidates) > self._most_slow:
            candidates = heapq.nlargest(self._most_slow, candidates, key=elapsed.__getitem__)
        for at in candidates:
            one = records[at]
            name, detail = describe(at)
            slow = Slow(
                float(one["elapsed"]),
                int(one["mini_batch"]),
                int(one["attempt"]),
                int(one["category"]),
                float(one["started"]),
                float(one["read"]),
                float(one["run"]),
                (int(nodes[at]), int(processes[at])),
                name,
                detail,
            )
            if len(self._slow) < self._most_slow:
                heapq.heappush(self._slow, slow)
            else:
                heapq.heappushpop(self._slow, slow)

    def _add_sums(
        self,
        nodes: NDArray[np.int64],
        processes: NDArray[np.int64],
        records: Records,
        kinds: NDArray[np.int64],
    ) -> None:
        final = records["final"] != 0
        items = np.where(final, records["items"], 0)
        good = final & (kinds == self.SUCCEEDED)
        succeeded_items = np.where(good, np.minimum(records["items"], records["results"]), 0)
        ends = records["started"] + records["elapsed"]
        columns = {
            "attempts": np.ones(len(records)),
            "succeeded": kinds == self.SUCCEEDED,
            "failed": kinds == self.FAILED,
            "retried": kinds == self.RETRIED,
            "overtaken": kinds == self.OVERTAKEN,
            "items": items,
            "succeeded_items": succeeded_items,
            "failed_items": items.astype(np.int64) - succeeded_items,
            **{name: records[name] for name in ("elapsed", "read", "run", "cpu")},
        }
        # One number for a process, so that a block is grouped by one sort; -1 stands for no node and no process.
        numbers = (nodes + 1) << 32 | (processes + 1)
        places, seen, index = np.unique(numbers, return_index=True, return_inverse=True)
        sums = {name: np.bincount(index, column, len(places)) for name, column in columns.items()}
        first, last = np.full(len(places), np.inf), np.full(len(places), -np.inf)
        np.minimum.at(first, index, records["started"])
        np.maximum.at(last, index, ends)
        for at in np.argsort(seen):
            place = int(places[at])
            process = (place >> 32) - 1, (place & 0xFFFFFFFF) - 1
            values: dict[str, Any] = {
                name: int(sums[name][at]) if name in _COUNTED else float(sums[name][at]) for name in _ADDED
            }
            self._sums_of(process).add(Sums(**values, first=float(first[at]), last=float(last[at])))

    def _sums_of(self, process: Process) -> Sums:
        if process not in self._processes and len(self._processes) >= self._most_processes:
            process = (process[0], OTHER_PROCESSES if process[0] != NO_NODE else NO_NODE)
        return self._processes.setdefault(process, Sums())


def _kinds(records: Records) -> NDArray[np.int64]:
    """What became of each attempt: `RollUp.SUCCEEDED` and so on."""
    kinds = np.where(records["final"] != 0, RollUp.FAILED, RollUp.RETRIED)
    kinds[records["category"] == 0] = RollUp.SUCCEEDED
    kinds[records["category"] == Category.OVERTAKEN] = RollUp.OVERTAKEN
    return kinds
