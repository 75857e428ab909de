"""A run folder becomes ``report.html``: what it tells is gathered, drawn, put into words, and written as one file."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prs_dask.errors import Fault, OutputError, SettingsError
from prs_dask.logs.run_folder import RunFolder
from prs_dask.report.run_reading import RunReading, read_run

__all__ = ["SWITCH", "write_report", "write_report_apart", "writes_reports"]

NEEDED = ("bokeh", "jinja2")
"""What the extra ``report`` brings."""

MOST_NODES = 32
"""Nodes whose use of resources is drawn."""


SWITCH = "PRS_DASK_REPORT"
"""Environment variable: with ``0`` a step run leaves no report at its end."""


SECONDS_APART = 120.0
"""So long a step run waits for its report."""

PROGRAM_APART = "import sys; from prs_dask.report.writing import write_report; write_report(sys.argv[1])"


def writes_reports() -> bool:
    """Does a step run leave a report at its end? Where the extra is installed, unless told otherwise. Quick."""
    return os.environ.get(SWITCH, "1") != "0" and not _missing()


def write_report(run_folder: str | os.PathLike[str], output: str | os.PathLike[str] | None = None) -> Path:
    """Write the report of a step run that is finished, running or broken.

    Parameters
    ----------
    run_folder
        Of the step run. Nothing in it is changed but ``report.html``.
    output
        The file to write; None: ``report.html`` in the run folder. A file that is there is replaced.

    Returns
    -------
    Path
        The file, absolute.

    Raises
    ------
    SettingsError
        It is no run folder, or the extra ``report`` is not installed.
    OutputError
        The file cannot be written.
    """
    missing = _missing()
    if missing:
        found = f"{' and '.join(missing)}, not installed"
        raise SettingsError([Fault("report", found, "the extra report", "pip install 'prs-dask[report]'")])
    reading = read_run(run_folder)
    path = Path(os.path.abspath(output)) if output is not None else reading.folder.report
    text = _text(reading, path.parent)
    new = _unfinished(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.write_text(text, encoding="utf-8", errors="backslashreplace")
        new.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            new.unlink()
        fault = Fault(
            "report", f"{path}: {error.strerror or error}", "a file that can be written", "--output report.html"
        )
        raise OutputError([fault]) from error
    return path


def write_report_apart(run_folder: str | os.PathLike[str], given_up: Callable[[], bool] = lambda: False) -> None:
    """The same in a process of its own: bokeh would stay in this one, 80 MB and more.

    A Ctrl-C in the terminal does not reach that process. Where this one is killed it ends its work.

    Parameters
    ----------
    given_up
        Asked ten times a second: once it says yes, the process is ended, and nothing is left of its work.

    Raises
    ------
    OSError
        There is no such process.
    RuntimeError
        It has failed, with what it said last; it was given up, or took longer than `SECONDS_APART`.
    """
    until = time.monotonic() + SECONDS_APART
    with subprocess.Popen(
        [sys.executable, "-P", "-c", PROGRAM_APART, os.fspath(run_folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                _, told = process.communicate(timeout=0.1)
                break
            if given_up() or time.monotonic() > until:
                process.kill()
                process.communicate()
                with contextlib.suppress(OSError):
                    _unfinished(RunFolder(Path(run_folder)).report).unlink(missing_ok=True)
                raise RuntimeError("nobody waits for it" if given_up() else f"not within {SECONDS_APART:g} s")
    if process.returncode:
        said = told.decode("utf-8", "replace").strip().splitlines()
        raise RuntimeError(said[-1] if said else f"it ended with {process.returncode}")


def _unfinished(path: Path) -> Path:
    """Its name while it is written."""
    return path.with_name(f".{path.name}.new")


def _missing() -> list[str]:
    return [name for name in NEEDED if importlib.util.find_spec(name) is None]


def _text(reading: RunReading, folder: Path) -> str:
    """The page; ``folder`` is where it will lie."""
    from prs_dask import __version__
    from prs_dask.report.contents import gather
    from prs_dask.report.links import Links
    from prs_dask.report.page import page
    from prs_dask.report.words import words

    contents = gather(reading)
    drawn = _figures(contents)
    return page(words(contents, drawn, Links(reading.folder.logs, folder), time.time(), __version__), drawn)


def _figures(contents: Any) -> dict[str, Any]:
    from prs_dask.report import figures

    attempts, usage = contents.attempts, contents.usage[:MOST_NODES]
    since = min((life.start for life in contents.lives.values()), default=0.0)
    until = max([attempts.time.ends_at(), *(life.end for life in contents.lives.values())])
    if attempts.time.begun is None:  # nothing but samples of nodes, where not even one attempt has ended
        times = [at for one in usage for at in (one.times[0], one.times[-1])]
        if not times:
            return {}
        attempts.time.see([min(times)], [max(times)])
        until = attempts.time.ends_at()
    axis = figures.TimeAxis(attempts.time, since, until)
    drawn = {}
    if attempts.timeline.count:
        drawn["where_time_went"] = figures.where_time_went(axis, attempts.timeline)
        drawn["lanes"] = figures.lanes(axis, attempts.timeline, contents.lives)
        drawn["throughput"] = figures.throughput(axis, attempts.roll_up)
        drawn["run_times"] = figures.run_times(attempts.roll_up)
    for node in usage:
        if node.shares:
            drawn[f"shares-{node.node}"] = figures.shares(axis, node)
        if node.rates:
            drawn[f"rates-{node.node}"] = figures.rates(axis, node)
    return drawn
