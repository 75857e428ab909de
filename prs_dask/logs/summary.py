"""What a step run has come to, as values and as lines for people. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from prs_dask.logs.text import one_line, plain
from prs_dask.quantities import format_rate, format_seconds

__all__ = ["Progress", "StepSummary", "format_job_result", "format_progress", "format_summary"]


@dataclass(frozen=True, slots=True)
class StepSummary:
    """How a step run ended (behaviour, section 10.1).

    Parameters
    ----------
    state
        ``"Completed"``, ``"Failed"`` or ``"Canceled"``.
    mini_batches, succeeded_mini_batches, failed_mini_batches
        Those that exist, and what became of them; the others were not run.
    items, succeeded_items, failed_items
        Items of the mini-batches that ended; each counts once, whatever the attempts.
    attempts
        Tries of all mini-batches together.
    rows
        Rows in the output; 0 with summary_only.
    seconds
        From the first mini-batch handed out to the last row on disk.
    total_seconds
        From submit.
    """

    state: str
    mini_batches: int
    succeeded_mini_batches: int
    failed_mini_batches: int
    items: int
    succeeded_items: int
    failed_items: int
    attempts: int
    rows: int
    seconds: float
    total_seconds: float


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a step run is.

    Parameters
    ----------
    state
        ``"Running"`` or one of `StepSummary`'s.
    stage
        What it does, in a few words (``"starting workers"``), or what it waits for (``"waiting for workers"``).
    total
        Mini-batches in all; None while the listing goes on.
    created, succeeded, failed, running
        Mini-batches.
    failed_items, items
        Of those that ended.
    rate
        Mini-batches a second, lately.
    seconds_left
        None where nobody can know.
    elapsed
        Seconds since submit.
    """

    state: str
    stage: str
    total: int | None
    created: int
    succeeded: int
    failed: int
    running: int
    failed_items: int
    items: int
    rate: float
    seconds_left: float | None
    elapsed: float


def format_progress(progress: Progress) -> str:
    """One line of the overview."""
    running = progress.state == "Running"
    head = f"{progress.state}, {one_line(progress.stage, 80)}" if running else progress.state
    if not progress.created:
        return f"{head}: no mini-batches yet; {format_seconds(progress.elapsed)} so far"
    done = progress.succeeded + progress.failed
    total = f"{progress.total:,}" if progress.total is not None else f"{progress.created:,} or more"
    left = f"{format_seconds(progress.seconds_left)} left" if progress.seconds_left is not None else "time left unknown"
    return (
        f"{head}: {done:,} of {total} mini-batches done"
        f" ({progress.created:,} created, {progress.running:,} running,"
        f" {progress.succeeded:,} succeeded, {progress.failed:,} failed);"
        f" {progress.items:,} items, {progress.failed_items:,} failed;"
        f" {format_rate(progress.rate)}, {left}; {format_seconds(progress.elapsed)} so far"
    )


def format_summary(summary: StepSummary) -> list[str]:
    """The counts, a line each."""
    not_run = summary.mini_batches - summary.succeeded_mini_batches - summary.failed_mini_batches
    rest = f", {not_run:,} not run" if not_run > 0 else ""
    return [
        f"State: {summary.state}",
        f"Mini-batches: {summary.mini_batches:,} ({summary.succeeded_mini_batches:,} succeeded,"
        f" {summary.failed_mini_batches:,} failed{rest})",
        f"Items: {summary.items:,} ({summary.succeeded_items:,} succeeded, {summary.failed_items:,} failed)",
        f"Attempts: {summary.attempts:,}",
        f"Rows: {summary.rows:,}",
        f"Time: {format_seconds(summary.seconds)} from the first mini-batch handed out to the last row on disk,"
        f" {format_seconds(summary.total_seconds)} from submit",
    ]


def format_job_result(
    summary: StepSummary, *, cause: str = "", output: str = "", open_first: str = "", resume: str = ""
) -> str:
    """The whole of ``job_result.txt``.

    Parameters
    ----------
    cause
        Why it failed or was canceled.
    output
        Where the output is.
    open_first
        The log to begin with.
    resume
        The command that goes on with it.
    """
    state, *counts = format_summary(summary)
    lines = [state]
    if cause:
        first, *others = plain(cause).strip().split("\n")
        lines += [f"Cause: {first}", *(f"    {line}" for line in others)]
    lines += counts
    for name, value in (("Output", output), ("Open first", open_first), ("Resume", resume)):
        if value:
            lines.append(f"{name}: {one_line(value, 5000)}")
    return "\n".join(lines) + "\n"
