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

__all__ = ["status"]

LAST_LINES = 5
_TAIL_BYTES = 64 * 1024


@click.command()
@click.argument("run_folder", type=click.Path(path_type=Path))
def status(run_folder: Path) -> None:
    """Show how the step run in RUN_FOLDER stands."""
    name = _step_name(run_folder)
    tell(f"step run: {name}")
    tell(f"folder:   {run_folder.resolve()}")
    result = run_folder / "logs" / "job_result.txt"
    if result.is_file():
        tell()
        tell(_tail(result).rstrip())
        return
    overviews = sorted((run_folder / "logs").glob("job_progress_overview.*.txt"))
    if not overviews:
        tell("state:    no progress yet")
        return
    tell("state:    no result yet; it is under way, or its driver was killed")
    tell()
    for line in _tail(overviews[-1]).splitlines()[-LAST_LINES:]:
        tell(line)


def _step_name(run_folder: Path) -> str:
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
    return str(content.get("name") or run_folder.resolve().name)


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
