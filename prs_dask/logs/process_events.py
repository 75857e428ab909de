"""sys/node/<node>/processes.csv: what became of each worker process of a node, a row an event, as it comes.

::

    started ──▶ ready ──▶ ended
       │           (init() is done)
       ├──▶ failed: import or init() did
       └──▶ ended:  the step run was over, or its worker was gone, before it was ready

Times are of the node's clock, but for the end of a process that was lost with its worker.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from prs_dask.logs.places import PROCESS_EVENT_COLUMNS, PROCESS_EVENTS
from prs_dask.logs.text import csv_field, process_name, utc_text

__all__ = [
    "ENDED",
    "EVENTS_HEADER",
    "FAILED",
    "OVER",
    "READY",
    "STARTED",
    "ProcessEvent",
    "format_event",
    "read_events",
]

STARTED, READY, FAILED, ENDED = "started", "ready", "failed", "ended"
OVER = "the step run is over"
"""So begins why a process ended that nothing but the end of the step run has ended."""

EVENTS_HEADER = (",".join(PROCESS_EVENT_COLUMNS) + "\n").encode()

_NAME = re.compile(r"process(\d{1,9})", re.ASCII)


class ProcessEvent(NamedTuple):
    """Something that happened to a worker process.

    Parameters
    ----------
    time
        Seconds since the epoch.
    node, process
        Its numbers.
    event
        ``"started"``, ``"ready"``, ``"failed"`` or ``"ended"``.
    ip, pid
        Of the process; nothing where they are not known.
    seconds
        Of ``"ready"``: what ``init()`` took.
    why
        Of ``"failed"`` and ``"ended"``; of ``"started"``, where the node has GPUs, which one it has.
    """

    time: float
    node: int
    process: int
    event: str
    ip: str = ""
    pid: int = 0
    seconds: float = 0.0
    why: str = ""


def format_event(event: ProcessEvent) -> bytes:
    """Its row of the table."""
    seconds = f"{event.seconds:.6f}" if event.event == READY else ""
    row = (
        f"{utc_text(event.time)},{process_name(event.process)},{event.event},{event.ip},{event.pid or ''},{seconds},"
        f"{csv_field(event.why)}\n"
    )
    return row.encode("utf-8", "backslashreplace")


def read_events(logs: Path) -> Iterator[ProcessEvent]:
    """All events that stand in the tables below ``logs``, node by node; torn rows are passed over."""
    found = []
    for path in logs.glob(PROCESS_EVENTS.format(node="*")):
        if path.parent.name.isascii() and path.parent.name.isdecimal():
            found.append((int(path.parent.name), path))
    for node, path in sorted(found):
        with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
            for line in file:
                event = _event(node, line)
                if event is not None:
                    yield event


def _event(node: int, line: str) -> ProcessEvent | None:
    """None for the header, and for what is no whole row."""
    try:
        when, name, event, ip, pid, seconds, why = next(csv.reader([line.removesuffix("\n")]))
        number = _NAME.fullmatch(name)
        if not line.endswith("\n") or number is None or event not in (STARTED, READY, FAILED, ENDED):
            return None
        time = datetime.fromisoformat(when).timestamp()
        return ProcessEvent(time, node, int(number[1]), event, ip, int(pid or 0), float(seconds or 0), why)
    except (ValueError, StopIteration, csv.Error):
        return None
