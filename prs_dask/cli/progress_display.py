"""How a step run's progress is shown: a bar on a terminal, a line every so often elsewhere, or JSON for programs."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TextIO

import click

from prs_dask.cli.terminal_text import printable, tell, tell_error
from prs_dask.logs import places
from prs_dask.logs.job_result import JobResult
from prs_dask.quantities import format_count, format_rate, format_seconds

__all__ = [
    "BarDisplay",
    "Display",
    "JsonDisplay",
    "LineDisplay",
    "NoDisplay",
    "ProgressLike",
    "display_for",
    "progress_flag",
    "progress_words",
    "tell_end",
]

KINDS = ("auto", "bar", "lines", "json", "off")

progress_flag: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--progress",
    "progress_kind",
    type=click.Choice(KINDS),
    default="auto",
    show_default=True,
    help="How progress is shown. auto: a bar on a terminal, else a line every 10 s. json: a JSON object a line on "
    "stdout, every 10 s, at each change, and at the end.",
)

SECONDS_BETWEEN_LINES = 10.0
LEAST_BAR, MOST_BAR, WORDS = 6, 24, 72
"""Columns of a terminal: the words have most of a narrow one."""


class ProgressLike(Protocol):
    """What ``StepRun.progress()`` returns."""

    @property
    def state(self) -> str: ...
    @property
    def stage(self) -> str: ...
    @property
    def total(self) -> int | None: ...
    @property
    def created(self) -> int: ...
    @property
    def succeeded(self) -> int: ...
    @property
    def failed(self) -> int: ...
    @property
    def running(self) -> int: ...
    @property
    def failed_items(self) -> int: ...
    @property
    def items(self) -> int: ...
    @property
    def rate(self) -> float: ...
    @property
    def seconds_left(self) -> float | None: ...
    @property
    def elapsed(self) -> float: ...


class Display(Protocol):
    """Shows the newest progress; told often, it decides what is worth showing."""

    def update(self, progress: ProgressLike) -> None: ...
    def close(self) -> None: ...
    def end(self, step_run: Any, state: str) -> None: ...
    def report(self, path: Path) -> None: ...


def display_for(kind: str = "auto", stream: TextIO | None = None) -> Display:
    """The display of a kind; ``auto`` is a bar where the stream (default: stderr) is a terminal, else lines."""
    if kind == "auto":
        kind = "bar" if (stream or sys.stderr).isatty() else "lines"
    displays: Mapping[str, Callable[[], Display]] = {
        "bar": BarDisplay,
        "lines": LineDisplay,
        "json": JsonDisplay,
        "off": NoDisplay,
    }
    return displays[kind]()


def progress_words(progress: ProgressLike, most: int | None = None) -> str:
    """Counts, failures, rate and time left in one line.

    Parameters
    ----------
    most
        Characters there is room for: where they are too many, the number of items is left out, then what runs.
    """
    if not progress.created:
        return "no mini-batches yet"
    done = progress.succeeded + progress.failed
    known = progress.created if progress.total is None else progress.total
    least = "at least " if progress.total is None else ""
    words = {"done": f"{format_count(done)} of {least}{format_count(known)} mini-batches"}
    if progress.items > done:
        words["items"] = f"{format_count(progress.items)} items"
    if progress.failed or progress.failed_items:
        words["failed"] = f"{format_count(progress.failed)} failed ({format_count(progress.failed_items)} items)"
    if progress.running:
        words["running"] = f"{format_count(progress.running)} running"
    if done:
        words["rate"] = format_rate(progress.rate)
    if progress.seconds_left and progress.state == "Running":
        words["left"] = f"about {format_seconds(progress.seconds_left)} left"
    for name in ("items", "running"):
        if most is not None and len(", ".join(words.values())) > most:
            words.pop(name, None)
    return ", ".join(words.values())


def _stage(progress: ProgressLike) -> str:
    """What it is doing, or how it ended."""
    return progress.stage if progress.state == "Running" and progress.stage else progress.state


def tell_end(step_run: Any, state: str) -> None:
    """The last lines: counts and output on stdout, the cause of a failure on stderr."""
    summary = step_run.summary()
    counts = [f"{format_count(summary.succeeded_mini_batches)} of {format_count(summary.mini_batches)} mini-batches"]
    if summary.items:
        counts.append(f"{format_count(summary.succeeded_items)} of {format_count(summary.items)} items succeeded")
    counts.append(f"{format_count(summary.rows)} row{'s' * (summary.rows != 1)}")
    tell(f"{state} in {format_seconds(summary.total_seconds)}: {', '.join(counts)}")
    output = step_run.output_file
    if output is not None and state == "Completed":
        tell(f"output: {output}")
    elif output is not None and summary.rows and (partial := Path(f"{output}.partial")).exists():
        tell(f"rows so far: {partial}")
    logs = Path(step_run.run_folder) / "logs"
    tell(f"logs:   {logs}")
    all_errors = f"prs-dask errors {shlex.quote(str(step_run.run_folder))}"
    if state == "Completed" and summary.failed_items:
        failed = f"{format_count(summary.failed_mini_batches)} mini-batches, {format_count(summary.failed_items)} items"
        tell_error(f"failed, as the thresholds allow: {failed}; why: {all_errors}")
    if state != "Completed":
        if step_run.error:
            tell_error(f"{state}: {step_run.error}")
        mended = ""
        if (logs / places.ERRORS).exists():
            tell_error(f"all errors: {all_errors}")
            if step_run.resume_hint.startswith("prs-dask "):
                mended = "   (--accept-changes, where you have changed the script)"
        if first := _open_first(logs):
            tell_error(f"look at: {first}")
        tell_error(f"to go on with it: {step_run.resume_hint}{mended}")


def _open_first(logs: Path) -> str:
    """The log that the driver names, where there is one."""
    try:
        return JobResult.from_json((logs / places.JOB_RESULT_JSON).read_bytes()).open_first
    except (OSError, ValueError):
        return ""


class NoDisplay:
    """Shows nothing but the end."""

    def update(self, progress: ProgressLike) -> None:
        pass

    def close(self) -> None:
        pass

    def end(self, step_run: Any, state: str) -> None:
        tell_end(step_run, state)

    def report(self, path: Path) -> None:
        tell(f"report: {path}")


class LineDisplay(NoDisplay):
    """A line at each change of state or stage, and every ten seconds between."""

    def __init__(self) -> None:
        self._told: tuple[str, str] | None = None
        self._told_at = 0.0

    def update(self, progress: ProgressLike) -> None:
        now = (progress.state, progress.stage)
        if now == self._told and progress.elapsed - self._told_at < SECONDS_BETWEEN_LINES:
            return
        self._told, self._told_at = now, progress.elapsed
        self._tell(progress)

    def _tell(self, progress: ProgressLike) -> None:
        tell_error(f"[{format_seconds(progress.elapsed)}] {_stage(progress)}: {progress_words(progress)}")


class JsonDisplay(LineDisplay):
    """The same as JSON, an object a line on stdout: ``"event": "progress"``, and at the end one ``"event": "end"``."""

    def _tell(self, progress: ProgressLike) -> None:
        values = {name: getattr(progress, name) for name in _FIELDS}
        _tell_json("progress", values)

    def end(self, step_run: Any, state: str) -> None:
        summary, output = step_run.summary(), step_run.output_file
        completed = state == "Completed"
        values = {
            **{name: getattr(summary, name) for name in _SUMMARY_FIELDS},
            "state": state,
            "cause": None if completed else step_run.error,
            "run_folder": str(step_run.run_folder),
            "logs": str(Path(step_run.run_folder) / "logs"),
            "output": str(output) if completed and output is not None else None,
            "resume": None if completed else step_run.resume_hint,
        }
        _tell_json("end", values)

    def report(self, path: Path) -> None:
        """Nothing stands behind the end."""


_FIELDS = (
    "state",
    "stage",
    "total",
    "created",
    "succeeded",
    "failed",
    "running",
    "items",
    "failed_items",
    "rate",
    "seconds_left",
    "elapsed",
)
_SUMMARY_FIELDS = (
    "mini_batches",
    "succeeded_mini_batches",
    "failed_mini_batches",
    "items",
    "succeeded_items",
    "failed_items",
    "attempts",
    "rows",
    "seconds",
    "total_seconds",
)


def _tell_json(event: str, values: Mapping[str, Any]) -> None:
    """ASCII: what a terminal or a reader could obey is an escape."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    click.echo(json.dumps({"time": now, "event": event, **values}))


class BarDisplay(NoDisplay):
    """A bar on stderr, redrawn in place, by rich."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._column = BarColumn(bar_width=MOST_BAR)
        self._bar = Progress(
            TextColumn("{task.fields[stage]}", markup=False),
            self._column,
            TextColumn("{task.fields[words]}", markup=False),
            console=Console(stderr=True, markup=False, highlight=False),
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._bar.add_task("", total=None, stage="starting", words="")
        self._bar.start()

    def update(self, progress: ProgressLike) -> None:
        stage = printable(_stage(progress))
        width = self._bar.console.width
        self._column.bar_width = max(LEAST_BAR, min(MOST_BAR, width - WORDS))
        words = printable(progress_words(progress, width - len(stage) - self._column.bar_width - 2))
        self._bar.update(
            self._task,
            total=progress.total,
            completed=progress.succeeded + progress.failed,
            stage=stage,
            words=words,
        )
        self._bar.refresh()

    def close(self) -> None:
        self._bar.stop()
