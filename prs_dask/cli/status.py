"""``prs-dask status``: how a step run stands, from the files in its run folder alone.

The step run may be under way in another process, may have ended, or may have been killed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from prs_dask.cli.terminal_text import tell
from prs_dask.errors import Fault, SettingsError
from prs_dask.logs.resume_hint import resume_hint
from prs_dask.output.journal import read_journal
from prs_dask.output.journal_lock import holder
from prs_dask.quantities import format_count

__all__ = ["status"]

LAST_LINES = 5
_TAIL_BYTES = 64 * 1024


@click.command()
@click.argument("run_folder", type=click.Path(path_type=Path))
def status(run_folder: Path) -> None:
    """Show how the step run in RUN_FOLDER stands."""
    record = _record(run_folder)
    tell(f"step run: {record.get('name') or run_folder.resolve().name}")
    tell(f"folder:   {run_folder.resolve()}")
    driver = holder(run_folder)
    result = run_folder / "logs" / "job_result.txt"
    if result.is_file() and not driver:
        tell()
        tell(_tail(result).rstrip())
        return
    tell(f"state:    running; {driver} drives it" if driver else "state:    its driver was killed")
    if (run_folder / "journal.jsonl").is_file():
        state = read_journal(run_folder / "journal.jsonl")
        counts = f"{format_count(len(state.finished))} mini-batches succeeded, {format_count(len(state.failed))} failed"
        tell(f"finished: {counts}, {format_count(state.counts.get('rows', 0))} rows")
    if not driver and "run_folder" in record:
        tell(f"resume:   {resume_hint(record)}")
    overviews = sorted((run_folder / "logs").glob("job_progress_overview.*.txt"))
    tell()
    for line in _tail(overviews[-1]).splitlines()[-LAST_LINES:] if overviews else ["no progress yet"]:
        tell(line)


def _record(run_folder: Path) -> dict[str, Any]:
    path = run_folder / "run.json"
    if not run_folder.is_dir():
        raise _no_run_folder(run_folder, "no such folder")
    try:
        content: Any = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise _no_run_folder(run_folder, "a folder without run.json") from None
    except OSError as error:
        raise _no_run_folder(run_folder, f"a run.json that cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise _no_run_folder(run_folder, "a run.json that is not valid JSON") from None
    if not isinstance(content, dict):
        raise _no_run_folder(run_folder, "a run.json that holds no settings")
    return content


def _no_run_folder(folder: Path, found: str) -> SettingsError:
    return SettingsError([Fault(str(folder), found, "the run folder of a step run", "prs-dask status prs_runs/<name>")])


def _tail(path: Path) -> str:
    """The last 64 KB of a log, from the first whole line on."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _TAIL_BYTES))
            data = file.read(_TAIL_BYTES)
    except OSError as error:
        raise _no_run_folder(path, f"a log that cannot be read ({error.strerror})") from None
    text = data.decode("utf-8", "replace")
    return text.partition("\n")[2] if size > _TAIL_BYTES else text
