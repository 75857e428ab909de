"""``prs-dask errors``: what went wrong in the user's code, each distinct error once."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from prs_dask.cli.terminal_text import tell, tell_error

if TYPE_CHECKING:
    from prs_dask.report.run_reading import RunReading

__all__ = ["errors", "group_contents"]

MOST = 10


@click.command()
@click.argument("run_folder", type=click.Path(path_type=Path))
@click.option("--all", "all_of_them", is_flag=True, help=f"All of them, not the {MOST} most frequent alone.")
@click.option("--json", "as_json", is_flag=True, help="All of them as JSON.")
def errors(run_folder: Path, all_of_them: bool, as_json: bool) -> None:
    """Show the distinct errors of the step run in RUN_FOLDER, the most frequent first.

    It may be under way, have ended, or have been killed. Errors are one where type and line of the script agree;
    each is shown with that line, what it said, the first mini-batch that it hit, and the log with the full traceback.

    Ends with 0 whether there are errors or not.
    """
    from prs_dask.report.run_reading import read_run

    reading = read_run(run_folder)
    if as_json:
        tell(json.dumps(_content(reading), indent=2))
    else:
        for line in _lines(reading, None if all_of_them else MOST):
            tell(line)
    for gap in reading.gaps:
        tell_error(f"not read: {gap}")


def group_contents(reading: RunReading, most: int | None = None) -> list[dict[str, object]]:
    """Distinct errors as JSON values, with the logs where they lie."""
    found = reading.errors.most_frequent(most)
    return [{**asdict(group), "log": str(reading.folder.logs / group.log)} for group in found]


def _lines(reading: RunReading, most: int | None) -> list[str]:
    from prs_dask.logs.error_groups import counted, group_lines
    from prs_dask.quantities import format_count

    found = reading.errors
    folder = shlex.quote(str(reading.folder.path))
    so_far = "" if reading.has_ended else " so far"
    told = f"{counted(found)}{so_far}, most frequent first" if found.total else f"no errors of the entry script{so_far}"
    lines = [f"{reading.name}, {reading.state}: {told}"]
    if not found.total and reading.cause:
        lines += ["", f"why it has not completed: {reading.cause}"]
    shown = found.most_frequent(most)
    for group in shown:
        lines += ["", *group_lines(group, str(reading.folder.logs), resumed=found.resumed)]
        if group.mini_batch:
            lines.append(f"    alone, under a debugger: prs-dask debug {folder} {shlex.quote(group.mini_batch)}")
    if more := len(found) - len(shown):
        lines += ["", f"{format_count(more)} more: prs-dask errors --all {folder}"]
    if found.others:
        lines += ["", f"{format_count(found.others)} errors were too rare and too many to be kept apart"]
    if reading.short_results:
        items = f"{format_count(reading.short_results)} item{'s' * (reading.short_results != 1)} failed"
        lines += ["", f"{items} without an error: run() returned fewer results than it was given items"]
    for path in reading.faults():
        lines += ["", f"faults of prs_dask itself: {path}"]
    return lines


def _content(reading: RunReading) -> dict[str, object]:
    found = reading.errors
    return {
        "name": reading.name,
        "run_folder": str(reading.folder.path),
        "state": reading.state,
        "total": found.total,
        "distinct": len(found),
        "not_listed": found.others,
        "items_without_result": reading.short_results,
        "errors": group_contents(reading),
        "not_read": list(reading.gaps),
    }
