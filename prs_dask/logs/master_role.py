"""sys/master_role.txt: the scheduler's side.

==============================================  ========================================
sums of mini-batches                            every 10 seconds, and at each change of state or stage
each attempt that failed: tried again or not,   at most `MOST_A_SECOND` lines a second, the rest
or overtaken; each event of a worker process    is counted
workers that come and go, thresholds, the end   always
==============================================  ========================================
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from prs_dask.attempts.records import AttemptError, AttemptRecord, Category
from prs_dask.logs.due import Due, Every
from prs_dask.logs.lines import LineFormat
from prs_dask.logs.log_files import LogFiles
from prs_dask.logs.places import MASTER_ROLE
from prs_dask.logs.process_events import FAILED, READY, STARTED, ProcessEvent
from prs_dask.logs.summary import Progress
from prs_dask.logs.text import one_line, process_label, process_name
from prs_dask.quantities import format_seconds

__all__ = ["MasterRole"]

MOST_A_SECOND = 200
_EVERY = 10.0


class MasterRole:
    """Writes it; times are seconds since the epoch, and ``lines`` takes secrets out of texts."""

    def __init__(self, files: LogFiles, lines: LineFormat | None = None) -> None:
        self._files = files
        self._lines = lines or LineFormat()
        self._due = Due(_EVERY)
        self._retried = 0
        self._written = 0
        self._left_out = 0
        self._each_second = Every(1.0)

    def note(self, text: str, when: float) -> None:
        """What is never left out."""
        self._written += 1
        self._write(text, when)

    def process(self, event: ProcessEvent) -> None:
        """An event of a worker process."""
        if self._has_room():
            self._write(_told(event), event.time, "process", **_without_time(event))

    def attempt(self, name: object, node: int, process: int, record: AttemptRecord, error: AttemptError) -> None:
        """A mini-batch, or a part of one, that is tried again, or failed for good; or an attempt that was overtaken."""
        overtaken = record.category == Category.OVERTAKEN
        self._retried += not record.final and not overtaken
        if not self._has_room():
            return
        where = f" on {label}" if (label := process_label(node, process)) else ""
        what = "has succeeded elsewhere" if overtaken else "failed for good" if record.final else "failed and goes on"
        category = Category(record.category).label
        message = one_line(self._lines.redact(error.message if overtaken else f"{error.type}: {error.message}"))
        self._write(
            f"mini-batch {name} {what}: attempt {record.attempt}{where}, {category}: {message}",
            record.started + record.elapsed,
            "attempt",
            mini_batch=str(name),
            attempt=record.attempt,
            final=bool(record.final),
            process=label,
            category=category,
            error=message,
        )

    def progress(self, progress: Progress, now: float) -> None:
        """Sums, when they are due."""
        if not self._due(progress, now):
            return
        ended = progress.succeeded + progress.failed
        total = "" if progress.total is None else f" of {progress.total:,}"
        self._write(
            f"{progress.state}, {one_line(progress.stage, 80)}: {progress.created:,}{total} mini-batches created,"
            f" {ended + progress.running:,} dispatched, {ended:,} ended ({progress.succeeded:,} succeeded,"
            f" {progress.failed:,} failed), {self._retried:,} failed attempts tried again;"
            f" {progress.items:,} items, {progress.failed_items:,} failed",
            now,
            "progress",
            **asdict(progress),
            tried_again=self._retried,
        )

    def tick(self, now: float) -> None:
        """Another second may have begun."""
        if self._each_second(now):
            self.tell_left_out(now)

    def tell_left_out(self, now: float) -> None:
        """Say how many lines are missing, where some are."""
        if self._left_out:
            self._write(f"({self._left_out:,} more lines are left out here)", now)
        self._written = self._left_out = 0

    def _has_room(self) -> bool:
        self._written += 1
        self._left_out += self._written > MOST_A_SECOND
        return self._written <= MOST_A_SECOND

    def _write(self, text: str, when: float, event: str = "note", **fields: Any) -> None:
        self._files.append(MASTER_ROLE, self._lines.line("scheduler", text, when, event=event, fields=fields))


def _without_time(event: ProcessEvent) -> dict[str, Any]:
    """Its values; what happened is called ``what``, for ``event`` is that it happened."""
    values = event._asdict()
    return {"what": values.pop("event"), **{name: value for name, value in values.items() if name != "time"}}


def _told(event: ProcessEvent) -> str:
    who = f"{process_name(event.process)} of node {event.node}"
    if event.event == STARTED:
        gpu = f", {one_line(event.why, 200)}" if event.why else ""
        return f"{who} started: pid {event.pid} on {event.ip or 'a host that is not known'}{gpu}"
    if event.event == READY:
        return f"{who} is ready; init() took {format_seconds(event.seconds)}"
    return f"{who} {'could not start' if event.event == FAILED else 'ended'}: {one_line(event.why, 1000)}"
