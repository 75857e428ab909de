"""A run folder as one value, whether its step run is under way, has ended, or was killed at any moment.

::

    run.json              what was asked for
    journal.jsonl         what is finished, and how it ended: it decides
    journal.lock          whether somebody drives it
    logs/job_result.json  cause and times, which only its driver knew
    logs/, all of it      when it was last heard of

Nothing is changed, and nothing waits for the driver or holds it up. What is missing or torn is left out and named
in `RunReading.gaps`: a reader of what went wrong must not need that all went well.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from prs_dask.errors import Fault, OutputError, SettingsError
from prs_dask.logs import places
from prs_dask.logs.error_groups import ErrorGroups
from prs_dask.logs.first_look import engine_faults, look_first
from prs_dask.logs.job_result import JobResult
from prs_dask.logs.resume_hint import resume_hint
from prs_dask.logs.run_folder import RUNS_FOLDER, RunFolder
from prs_dask.logs.summary import StepSummary
from prs_dask.output.journal import Failure, JournalState, iter_failures, read_journal
from prs_dask.output.journal_lock import holder

__all__ = ["KILLED", "RUNNING", "RunReading", "read_run"]

T = TypeVar("T")

RUNNING = "Running"
KILLED = "Killed"
"""Its driver is gone, and has not said how it ended. `prs-dask resume` goes on with it."""


@dataclass(frozen=True, slots=True)
class RunReading:
    """A step run, as its folder told at one moment; made by `read_run`.

    Parameters
    ----------
    folder
        Its run folder; ``folder.logs`` and the names of `prs_dask.logs.places` lead to the logs.
    record
        ``run.json``; empty where that is gone.
    journal
        What is on disk for good; empty where there is none yet, or it cannot be read.
    state
        ``"Running"``, ``"Killed"``, ``"Completed"``, ``"Failed"`` or ``"Canceled"``.
    driver
        Who drives it, while it is running: ``process 12 on host``; empty otherwise.
    cause
        Why it failed or was canceled, perhaps several lines; empty otherwise.
    summary
        Counts of all its parts, and times of the last one. Where its driver has not told them, the counts are those
        of the journal, and both times go from the submit to the end, to the last sign of life, or until now.
    listed_all
        Is ``summary.mini_batches`` all there are? Otherwise the listing goes on, or broke off.
    last_sign
        When something was last written into it, in seconds since the epoch.
    errors
        The distinct errors of the user's code, of all its parts.
    gaps
        What could not be read, a sentence each.
    """

    folder: RunFolder
    record: Mapping[str, Any]
    journal: JournalState
    state: str
    driver: str
    cause: str
    summary: StepSummary
    listed_all: bool
    last_sign: float
    errors: ErrorGroups
    gaps: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The step's."""
        return str(self.record.get("name") or self.folder.path.name)

    @property
    def has_ended(self) -> bool:
        """Completed, Failed or Canceled."""
        return self.state not in (RUNNING, KILLED)

    @property
    def begun(self) -> float:
        """When its last part was submitted, in seconds since the epoch."""
        return _begun(self.record, self.journal, self.last_sign)

    @property
    def resume(self) -> str:
        """The command, or the call, that goes on with it; empty while it is running or when it has completed."""
        if self.state in (RUNNING, "Completed") or not isinstance(self.record.get("run_folder"), str):
            return ""
        return resume_hint(self.record)

    @property
    def output(self) -> Path | None:
        """The file with the rows: with ``.partial`` at its end until it has completed; None where there is none."""
        settings, folder = self.record.get("settings"), self.record.get("output")
        if not isinstance(settings, Mapping) or not isinstance(folder, str):
            return None
        if settings.get("output_action") != "append_row" or not isinstance(settings.get("append_row_file_name"), str):
            return None
        path = Path(folder, settings["append_row_file_name"])
        return next((one for one in (path, path.with_name(f"{path.name}.partial")) if one.is_file()), None)

    @property
    def short_results(self) -> int:
        """Items that count as failed without an error: ``run()`` returned fewer results than it was given items."""
        return self.journal.counts.get("failed_items", 0)

    def faults(self) -> list[Path]:
        """Logs of faults of prs_dask itself."""
        return engine_faults(self.folder.logs)

    def look_first(self) -> Path | None:
        """The log that tells most about what went wrong; None where nothing did, as far as is known."""
        errors = self.errors.worst() is not None
        path = look_first(self.folder.logs, self.state, errors=errors, results_missing=bool(self.short_results))
        begun = path != self.log(places.DRIVER_LOG) or path.is_file()
        return path if begun else None

    def log(self, name: str) -> Path:
        """Where a log is; ``name`` is one of `prs_dask.logs.places`."""
        return self.folder.logs / name

    def overviews(self) -> list[Path]:
        """The files of job_progress_overview, the oldest first."""
        return sorted(self.folder.logs.glob(places.OVERVIEW.format(hour="*")))

    def failures(self) -> Iterator[Failure]:
        """Mini-batches, or parts of them, that failed for good and were not opened again."""
        if self.journal.header is None:
            return iter(())
        return iter_failures(self.folder.journal)


def read_run(path: str | os.PathLike[str], now: float | None = None) -> RunReading:
    """Read a run folder.

    Parameters
    ----------
    path
        The run folder.
    now
        Seconds since the epoch; None: the time.

    Raises
    ------
    SettingsError
        It is no run folder. Says which one may have been meant.
    """
    folder = RunFolder(Path(os.path.abspath(path)))
    now = time.time() if now is None else now
    gaps: list[str] = []
    driver = holder(folder.path)  # first: what is read later is never older than it
    record = _record(folder, gaps)
    journal = _journal(folder, gaps)
    result = None if driver else _result(folder, gaps)
    last_sign = _last_sign(folder, now)
    told = result.summary.state if result is not None else KILLED
    state = RUNNING if driver else journal.end_state or told
    if result is not None and result.summary.state == state:
        summary, cause = result.summary, result.cause
    else:
        summary, cause = _from_journal(state, record, journal, last_sign if state != RUNNING else now), ""
    known = journal.inputs is not None and journal.inputs.complete
    errors = _errors(folder, gaps)
    return RunReading(folder, record, journal, state, driver, cause, summary, known, last_sign, errors, tuple(gaps))


def _record(folder: RunFolder, gaps: list[str]) -> dict[str, Any]:
    path = folder.run_json
    if not folder.path.is_dir():
        raise _no_run_folder(folder.path, "a file" if folder.path.exists() else "no such folder")
    found = "a run.json that holds no settings"
    try:
        content: Any = json.loads(path.read_bytes())
    except FileNotFoundError:
        found, content = "a folder without run.json", None
    except OSError as error:
        found, content = f"a run.json that cannot be read ({error.strerror})", None
    except (ValueError, RecursionError):
        found, content = "a run.json that is not valid JSON", None
    if isinstance(content, dict):
        return content
    if not folder.journal.exists() and not (folder.logs / places.DRIVER_LOG).exists():
        raise _no_run_folder(folder.path, found)
    gaps.append(f"{folder.path}: {found}")
    return {}


def _no_run_folder(path: Path, found: str) -> SettingsError:
    """With the run folder that may have been meant: one above it, or the newest in it."""
    meant = next((str(above) for above in path.parents if (above / "run.json").is_file()), "")
    if not meant and path.is_dir():
        inside = [*path.glob("*/run.json"), *path.glob(f"{RUNS_FOLDER}/*/run.json")]
        newest = max(inside, key=lambda one: one.parent.stat().st_mtime, default=None)
        meant = str(newest.parent) if newest is not None else ""
    return SettingsError(
        [Fault(str(path), found, "the run folder of a step run", meant or f"{RUNS_FOLDER}/<step name>-<time>-<id>")]
    )


def _journal(folder: RunFolder, gaps: list[str]) -> JournalState:
    if not folder.journal.exists():  # its driver was killed before it had begun one
        return JournalState()
    try:
        return read_journal(folder.journal)
    except OutputError as error:
        gaps += map(str, error.faults)
    except OSError as error:
        gaps.append(f"{folder.journal}: {error.strerror}")
    return JournalState()


def _result(folder: RunFolder, gaps: list[str]) -> JobResult | None:
    return _parsed(folder.logs / places.JOB_RESULT_JSON, JobResult.from_json, gaps)


def _errors(folder: RunFolder, gaps: list[str]) -> ErrorGroups:
    return _parsed(folder.logs / places.ERRORS_JSON, ErrorGroups.from_json, gaps) or ErrorGroups()


def _parsed(path: Path, parse: Callable[[bytes], T], gaps: list[str]) -> T | None:
    """None where there is no such file, or where it tells nothing."""
    try:
        return parse(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        gaps.append(f"{path}: {error.strerror}")
    except ValueError as error:
        gaps.append(f"{path}: {error}")
    return None


def _last_sign(folder: RunFolder, now: float) -> float:
    """The newest change of a file that a driver writes all the time; ``now`` where not even one is there."""
    paths = [folder.journal, folder.run_json, folder.logs, *folder.logs.glob("*.*"), *folder.logs.glob("user/*.*")]
    times = []
    for path in (*paths, folder.logs / places.ATTEMPTS, folder.logs / places.PROGRESS):
        with contextlib.suppress(OSError):
            times.append(path.stat().st_mtime)
    return max(times, default=now)


def _from_journal(state: str, record: Mapping[str, Any], journal: JournalState, until: float) -> StepSummary:
    counts = journal.counted()
    until = _seconds(journal.ended) or until
    took = max(0.0, until - _begun(record, journal, until))
    return StepSummary(
        state=state,
        mini_batches=max(counts.supplied, journal.inputs.listed if journal.inputs is not None else 0),
        succeeded_mini_batches=counts.succeeded,
        failed_mini_batches=counts.failed,
        items=counts.items,
        succeeded_items=counts.succeeded_items,
        failed_items=counts.failed_items,
        attempts=counts.attempts,
        rows=journal.counts.get("rows", 0),
        seconds=took,
        total_seconds=took,
    )


def _begun(record: Mapping[str, Any], journal: JournalState, otherwise: float) -> float:
    return _seconds(journal.part_begun) or _seconds(record.get("created")) or otherwise


def _seconds(text: object) -> float:
    """Seconds since the epoch of ``2026-01-31T08:15:00Z``; 0 where it is none."""
    try:
        return datetime.fromisoformat(text).timestamp() if isinstance(text, str) else 0.0
    except ValueError:
        return 0.0
