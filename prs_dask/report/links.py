"""Links from the report into the logs: relative, so that a run folder can be moved, and only to files that exist."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

from prs_dask.logs import places
from prs_dask.logs.roll_up import Process
from prs_dask.logs.text import process_label, process_name

__all__ = ["Links"]


class Links:
    """Links from the page into the run folder, relative, to files that exist.

    Parameters
    ----------
    logs
        The folder ``logs/``.
    page
        The folder in which the page lies.
    """

    def __init__(self, logs: Path, page: Path) -> None:
        self._logs = logs
        self._prefix = os.path.relpath(logs, page)

    def to(self, name: str, text: str = "", told: str = "") -> dict[str, str]:
        """A link to a log, or its text alone where there is no such file."""
        href = ""
        if (self._logs / name).is_file():
            href = quote(os.fsencode(os.path.join(self._prefix, name)))
        return {"href": href, "text": text or name, "told": told}

    def every(self, pattern: str) -> list[str]:
        """Names of the logs that match, sorted."""
        return sorted(path.relative_to(self._logs).as_posix() for path in self._logs.glob(pattern))

    def of_process(self, process: Process) -> list[dict[str, str]]:
        """What a process left."""
        node, number = process
        if number < 0:
            return [one for one in [self.to(places.LOST_WORKERS, "lost workers")] if one["href"]]
        own = {name: path for name, path in places.STREAMS.items() if "{process}" in path and "{name}" not in path}
        own = {"attempts": places.PROCESS_ATTEMPTS, **own, "errors": places.PROCESS_ERRORS}
        links = [self.to(path.format(node=node, process=process_name(number)), name) for name, path in own.items()]
        return [link for link in links if link["href"]]

    def errors_of(self, process: Process) -> dict[str, str]:
        """A process' name, leading to its errors, else to what it printed."""
        logs = {one["text"]: one["href"] for one in self.of_process(process)}
        href = logs.get("errors") or logs.get("stderr") or logs.get("lost workers") or ""
        return {"href": href, "text": process_label(*process) or "lost worker", "told": ""}
