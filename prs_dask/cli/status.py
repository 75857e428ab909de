"""``prs-dask status``: how a step run stands, from the files in its run folder alone.

The step run may be under way in another process, may have ended, or may have been killed.
"""

from __future__ import annotations

import json
import shlex
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from prs_dask.cli.errors import group_contents
from prs_dask.cli.terminal_text import tell, tell_error
from prs_dask.quantities import format_count, format_rate, format_seconds

if TYPE_CHECKING:
    from prs_dask.report.run_reading import RunReading

__all__ = ["status"]

LAST_LINES = 5


@click.command()
@click.argument("run_folder", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
def status(run_folder: Path, as_json: bool) -> None:
    """Show how the step run in RUN_FOLDER stands: under way, ended, or killed.

    What is finished and what has failed, its most frequent error, the log to open first, and how to go on with it.

    Ends with 0 whatever the state is.
    """
    from prs_dask.report.run_reading import read_run

    now = time.time()
    reading = read_run(run_folder, now)
    if as_json:
        tell(json.dumps(_content(reading), indent=2))
    else:
        for name, value in _facts(reading, now):
            first, *others = value.split("\n")
            tell(f"{name + ':':<10}{first}")
            for line in others:
                tell(f"{'':<10}{line}")
        if not reading.has_ended:
            tell()
            for line in _overview(reading) or ["no progress yet"]:
                tell(line)
    for gap in reading.gaps:
        tell_error(f"not read: {gap}")


def _facts(reading: RunReading, now: float) -> list[tuple[str, str]]:
    """What there is to tell, each under its name; over several lines where it has them."""
    from prs_dask.logs.error_groups import counted, group_lines

    summary, errors = reading.summary, reading.errors
    not_run = summary.mini_batches - summary.succeeded_mini_batches - summary.failed_mini_batches
    left = f", {format_count(not_run)} not run" if not_run and reading.state != "Running" else ""
    total = format_count(summary.mini_batches) + ("" if reading.listed_all else " or more")
    facts = [
        ("step run", reading.name),
        ("folder", str(reading.folder.path)),
        ("state", _state(reading, now)),
        ("finished", f"{format_count(summary.succeeded_mini_batches)} of {total} mini-batches succeeded,"
                     f" {format_count(summary.failed_mini_batches)} failed{left}"),
        ("items", f"{format_count(summary.succeeded_items)} succeeded, {format_count(summary.failed_items)} failed"
                  f"{_short_results(reading)}"),
    ]  # fmt: skip
    if reading.output is not None or summary.rows:
        where = f" in {reading.output}" if reading.output is not None else ""
        facts.append(("rows", f"{format_count(summary.rows)}{where}"))
    facts.append(("time", _time(reading)))
    worst = errors.worst()
    if worst is None and errors.total:
        told = f"{counted(errors)}, none since it was resumed: prs-dask errors {shlex.quote(str(reading.folder.path))}"
        facts.append(("errors", told))
    elif worst is not None:
        lines = group_lines(worst, str(reading.folder.logs), resumed=errors.resumed, lines_of_message=5, indent="  ")
        more = [f"all of them: prs-dask errors {shlex.quote(str(reading.folder.path))}"] if len(errors) > 1 else []
        facts.append(("errors", "\n".join([f"{counted(errors)}; the first to look at:", *lines, *more])))
    elif (log := reading.look_first()) is not None:
        facts.append(("look at", str(log)))
    if reading.resume:
        facts.append(("resume", reading.resume))
    return facts


def _state(reading: RunReading, now: float) -> str:
    if reading.driver:
        return f"running; {reading.driver} drives it"
    if not reading.has_ended:
        ago = format_seconds(max(0.0, now - reading.last_sign))
        return f"killed: its driver is gone without a word of how it ended; last sign of it {ago} ago"
    # The error that the cause goes on with is told below.
    return f"{reading.state}: {reading.cause.split(chr(10))[0]}" if reading.cause else reading.state


def _short_results(reading: RunReading) -> str:
    count = reading.short_results
    return f" ({format_count(count)} of them without an error: run() returned too few results)" if count else ""


def _time(reading: RunReading) -> str:
    """When it was begun, how long it took, how fast it is or was, and what is left."""
    from prs_dask.logs.text import utc_text

    running = reading.state == "Running"
    words = [f"begun {utc_text(reading.begun)[:19]}Z", format_seconds(reading.summary.total_seconds)]
    words[-1] += " so far" if running else ""
    rate, seconds_left = _speed(reading)
    if rate is not None:
        words.append(f"{format_rate(rate)} mini-batches {'lately' if running else 'on average'}")
    if seconds_left:
        words.append(f"about {format_seconds(seconds_left)} left")
    return ", ".join(words)


def _speed(reading: RunReading) -> tuple[float | None, float | None]:
    """Mini-batches a second, lately while it is running and over all of it otherwise, and seconds left."""
    from prs_dask.logs.places import PROGRESS
    from prs_dask.report.lately import read_lately

    if reading.state == "Running":
        return read_lately(reading.log(PROGRESS))
    return _rate(reading), None


def _rate(reading: RunReading) -> float | None:
    """Mini-batches a second over all of it; None where parts of it have passed at other times."""
    summary = reading.summary
    ended = summary.succeeded_mini_batches + summary.failed_mini_batches
    return ended / summary.seconds if ended and summary.seconds > 0 and not reading.journal.resumed else None


def _content(reading: RunReading) -> dict[str, object]:
    errors, first, overview = reading.errors, reading.look_first(), _overview(reading)
    rate, seconds_left = _speed(reading)
    return {
        "name": reading.name,
        "run_folder": str(reading.folder.path),
        "state": reading.state,
        "driver": reading.driver,
        "cause": reading.cause,
        "begun": reading.begun,
        "last_sign": reading.last_sign,
        "resumed": reading.journal.resumed,
        "summary": asdict(reading.summary),
        "listed_all": reading.listed_all,
        "rate": rate,
        "seconds_left": seconds_left,
        "progress": overview[-1] if overview else "",
        "errors": {
            "total": errors.total,
            "distinct": len(errors),
            "most_frequent": group_contents(reading, 5),
        },
        "output": None if reading.output is None else str(reading.output),
        "look_first": None if first is None else str(first),
        "resume": reading.resume,
        "not_read": list(reading.gaps),
    }


def _overview(reading: RunReading) -> list[str]:
    """The last lines of its newest overview."""
    from prs_dask.report.lately import last_lines

    overviews = reading.overviews()
    return last_lines(overviews[-1])[-LAST_LINES:] if overviews else []
