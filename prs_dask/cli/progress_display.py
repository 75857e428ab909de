"""How a step run's progress is shown: a bar on a terminal, a line every so often elsewhere."""

from __future__ import annotations

import sys
from typing import Protocol, TextIO

from prs_dask.cli.terminal_text import printable, tell_error
from prs_dask.quantities import format_count, format_rate, format_seconds

__all__ = ["BarDisplay", "Display", "LineDisplay", "ProgressLike", "display_for", "progress_words"]

SECONDS_BETWEEN_LINES = 10.0


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
    def rate(self) -> float: ...
    @property
    def seconds_left(self) -> float | None: ...
    @property
    def elapsed(self) -> float: ...


class Display(Protocol):
    """Shows the newest progress; told often, it decides what is worth showing."""

    def update(self, progress: ProgressLike) -> None: ...
    def close(self) -> None: ...


def display_for(stream: TextIO | None = None) -> Display:
    """A bar where the stream (default: stderr) is a terminal, else lines."""
    return BarDisplay() if (stream or sys.stderr).isatty() else LineDisplay()


def progress_words(progress: ProgressLike) -> str:
    """Counts, failures, rate and time left in one line."""
    if not progress.created:
        return "no mini-batches yet"
    done = progress.succeeded + progress.failed
    known = progress.created if progress.total is None else progress.total
    words = [
        f"{format_count(done)} of {'at least ' if progress.total is None else ''}{format_count(known)} mini-batches"
    ]
    if progress.failed or progress.failed_items:
        words.append(f"{format_count(progress.failed)} failed ({format_count(progress.failed_items)} items)")
    if progress.running:
        words.append(f"{format_count(progress.running)} running")
    if done:
        words.append(format_rate(progress.rate))
    if progress.seconds_left and progress.state == "Running":
        words.append(f"about {format_seconds(progress.seconds_left)} left")
    return ", ".join(words)


def _stage(progress: ProgressLike) -> str:
    """What it is doing, or how it ended."""
    return progress.stage if progress.state == "Running" and progress.stage else progress.state


class LineDisplay:
    """A line at each change of state or stage, and every ten seconds between."""

    def __init__(self) -> None:
        self._told: tuple[str, str] | None = None
        self._told_at = 0.0

    def update(self, progress: ProgressLike) -> None:
        now = (progress.state, progress.stage)
        if now == self._told and progress.elapsed - self._told_at < SECONDS_BETWEEN_LINES:
            return
        self._told, self._told_at = now, progress.elapsed
        tell_error(f"[{format_seconds(progress.elapsed)}] {_stage(progress)}: {progress_words(progress)}")

    def close(self) -> None:
        pass


class BarDisplay:
    """A bar on stderr, redrawn in place, by rich."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._bar = Progress(
            TextColumn("{task.fields[stage]}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[words]}", markup=False),
            console=Console(stderr=True, markup=False, highlight=False),
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._bar.add_task("", total=None, stage="starting", words="")
        self._bar.start()

    def update(self, progress: ProgressLike) -> None:
        self._bar.update(
            self._task,
            total=progress.total,
            completed=progress.succeeded + progress.failed,
            stage=printable(_stage(progress)),
            words=printable(progress_words(progress)),
        )
        self._bar.refresh()

    def close(self) -> None:
        self._bar.stop()
