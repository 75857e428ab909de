"""sys/job_report/process_summary.csv and node_summary.csv: what the attempts of each process and node come to."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import groupby

from prs_dask.attempts.records import pack
from prs_dask.logs.attempt_reader import AttemptRow
from prs_dask.logs.places import NODE_SUMMARY_COLUMNS, PROCESS_SUMMARY_COLUMNS
from prs_dask.logs.roll_up import OTHER_PROCESSES, RollUp, Sums
from prs_dask.logs.text import NO_NODE, process_name, utc_text

__all__ = ["add_rows", "node_summary", "process_summary"]

MOST_AT_ONCE = 1000


def add_rows(roll_up: RollUp, rows: Iterable[AttemptRow]) -> None:
    """Count attempts that stand in the table already, of earlier parts of a step run."""
    for (node, process, _), some in groupby(enumerate(rows), key=_place):
        roll_up.add(node, process, pack([row.record for _, row in some]))


def _place(numbered: tuple[int, AttemptRow]) -> tuple[int, int, int]:
    number, row = numbered
    return row.node, row.process, number // MOST_AT_ONCE


def process_summary(roll_up: RollUp) -> bytes:
    """The whole of ``process_summary.csv``; attempts that were lost with their worker belong to no process."""
    rows = ((f"{node},{_name(process)}", sums) for (node, process), sums in roll_up.processes.items())
    return _table(PROCESS_SUMMARY_COLUMNS, {place: sums for place, sums in rows if not place.startswith(f"{NO_NODE},")})


def node_summary(roll_up: RollUp) -> bytes:
    """The whole of ``node_summary.csv``; the row without a node has the attempts that were lost with their worker."""
    processes: dict[int, int] = {}
    for node, process in roll_up.processes:
        processes[node] = processes.get(node, 0) + (process >= 0)
    rows = {
        f"{'' if node == NO_NODE else node},{processes[node]}": sums for node, sums in sorted(roll_up.nodes.items())
    }
    return _table(NODE_SUMMARY_COLUMNS, rows)


def _name(process: int) -> str:
    return "others" if process == OTHER_PROCESSES else process_name(process)


def _table(columns: Iterable[str], rows: Mapping[str, Sums]) -> bytes:
    lines = [",".join(columns), *(f"{place},{_fields(sums)}" for place, sums in rows.items())]
    return ("\n".join(lines) + "\n").encode()


def _fields(sums: Sums) -> str:
    first, last = (utc_text(moment) if math.isfinite(moment) else "" for moment in (sums.first, sums.last))
    return (
        f"{first},{last},{sums.attempts},{sums.succeeded},{sums.failed},{sums.retried},"
        f"{sums.items},{sums.succeeded_items},{sums.failed_items},"
        f"{sums.elapsed:.3f},{sums.cpu:.3f},{sums.run:.3f}"
    )
