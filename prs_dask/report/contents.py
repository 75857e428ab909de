"""What a report tells, gathered from a run folder in one pass; memory does not grow with mini-batches."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from prs_dask.logs import places
from prs_dask.logs.error_groups import ErrorGroups
from prs_dask.logs.process_events import read_events
from prs_dask.logs.process_lives import Life as ToldLife
from prs_dask.logs.process_lives import ProcessLives
from prs_dask.logs.roll_up import Process, RollUp
from prs_dask.report.attempt_blocks import AttemptBlock, AttemptBlocks
from prs_dask.report.folded_time import FoldedTime
from prs_dask.report.lives import Life, busy_times, lives_of
from prs_dask.report.profiles import Function, top_functions
from prs_dask.report.resource_usage import NodeUsage, read_usage
from prs_dask.report.run_reading import RunReading
from prs_dask.report.timeline import Timeline

__all__ = ["MOST_FAILED", "Attempts", "Contents", "FailedMiniBatch", "gather"]

MOST_FAILED = 200


class FailedMiniBatch(NamedTuple):
    """A mini-batch, or a part of one, that failed for good."""

    name: str
    attempt: int
    category: str
    message: str
    detail: str
    process: Process
    ended: float


@dataclass(slots=True)
class Attempts:
    """All attempts of the table, rolled up; times are those of ``time``.

    ``processes_busy`` are times in which processes start or end, in order: what is left out of the time holds none.
    """

    roll_up: RollUp = field(default_factory=RollUp)
    timeline: Timeline = field(default_factory=Timeline)
    time: FoldedTime = field(default_factory=FoldedTime)
    failed: list[FailedMiniBatch] = field(default_factory=list)
    failed_count: int = 0
    processes_busy: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 2)))
    has_read_seconds: bool = False
    unreadable: int = 0

    def add(self, block: AttemptBlock) -> None:
        """Attempts in the order of the table."""
        records, text = block.records, block.texts
        self._see(records["started"], records["started"] + records["elapsed"])
        ends = self.time.of(records["started"] + records["elapsed"].astype(np.float64))
        records["started"] = self.time.of(records["started"])
        records["elapsed"] = np.maximum(ends - records["started"], 0.0)
        self.roll_up.add_block(
            block.nodes, block.processes, records, lambda at: (text("Mini-batch Id", at), text("Mini-batch Detail", at))
        )
        numbers = (block.nodes + 1) << 32 | (block.processes + 1)
        _, seen, index = np.unique(numbers, return_index=True, return_inverse=True)
        processes = [(int(block.nodes[at]), int(block.processes[at])) for at in seen]
        self.timeline.add(processes, index, records["started"], records, lambda at: text("Mini-batch Id", at))
        failed = np.flatnonzero((records["category"] != 0) & (records["final"] != 0))
        self.failed_count += len(failed)
        for at in failed[: MOST_FAILED - len(self.failed)].tolist():
            self.failed.append(
                FailedMiniBatch(
                    text("Mini-batch Id", at),
                    int(records["attempt"][at]),
                    text("Error Category", at),
                    text("Error Message", at),
                    text("Mini-batch Detail", at),
                    (int(block.nodes[at]), int(block.processes[at])),
                    float(records["started"][at] + records["elapsed"][at]),
                )
            )

    def _see(self, starts: NDArray[np.float64], ends: NDArray[np.float64]) -> None:
        """These attempts, and what processes did until then."""
        count = int(np.searchsorted(self.processes_busy[:, 0], ends.max(), "right"))
        seen, self.processes_busy = self.processes_busy[:count], self.processes_busy[count:]
        self.time.see(np.concatenate([seen[:, 0], starts]), np.concatenate([seen[:, 1], ends]))

    def finish(self) -> None:
        """All attempts were added."""
        self.time.see(self.processes_busy[:, 0], self.processes_busy[:, 1])


@dataclass(frozen=True, slots=True)
class Contents:
    """All of it.

    Parameters
    ----------
    reading
        State, counts, settings.
    attempts
        Rolled up.
    lives
        Of processes.
    told
        What is known of their starts and ends.
    usage
        Of nodes.
    errors
        Groups, most frequent first, and how many errors there were.
    functions, profiles
        Where the time went within the script, and how many processes' profiles told so; empty without profiles.
    """

    reading: RunReading
    attempts: Attempts
    lives: dict[Process, Life]
    told: dict[Process, ToldLife]
    usage: list[NodeUsage]
    errors: ErrorGroups
    functions: list[Function]
    profiles: int


def gather(reading: RunReading) -> Contents:
    """Read what a run folder holds; what is missing is left out."""
    processes = ProcessLives()
    for event in read_events(reading.folder.logs):
        processes.add(event)
    told = processes.lives
    attempts = Attempts(processes_busy=busy_times(told))
    blocks = AttemptBlocks(reading.log(places.ATTEMPTS), resumed=reading.journal.resumed > 0)
    for block in blocks:
        attempts.add(block)
    attempts.unreadable = blocks.unreadable
    attempts.finish()
    lives = lives_of(attempts.roll_up.processes, told, attempts.time)
    attempts.timeline.add_lives(
        list(lives),
        [life.start for life in lives.values()],
        [life.ready for life in lives.values()],
        [life.end for life in lives.values()],
    )
    functions, profiles = top_functions(reading.folder.logs.glob("sys/node/*/*.profile"))
    usage = read_usage(reading.folder.logs / "perf")
    return Contents(reading, attempts, lives, told, usage, _errors(reading), functions, profiles)


def _errors(reading: RunReading) -> ErrorGroups:
    try:
        return ErrorGroups.from_json(reading.log(places.ERRORS_JSON).read_bytes())
    except (OSError, ValueError):
        return ErrorGroups()
