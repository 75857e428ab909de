"""sys/job_report/process_summary.csv and node_summary.csv: each process and node, and what their attempts come to."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from itertools import groupby

from prs_dask.attempts.records import pack
from prs_dask.logs.attempt_reader import AttemptRow
from prs_dask.logs.places import NODE_SUMMARY_COLUMNS, PROCESS_SUMMARY_COLUMNS
from prs_dask.logs.process_lives import Life, ProcessLives, Starts
from prs_dask.logs.roll_up import OTHER_PROCESSES, Process, RollUp, Sums
from prs_dask.logs.text import NO_NODE, csv_field, process_name, utc_text

__all__ = ["ProcessSummary", "add_rows", "node_summary"]

MOST_AT_ONCE = 1000
_UNKNOWN = Life()


def add_rows(roll_up: RollUp, rows: Iterable[AttemptRow], *, failed_again: bool = False) -> None:
    """Count attempts that stand in the table already, of earlier parts of a step run.

    With ``failed_again`` what had failed for good is tried again: its attempts have decided nothing.
    """
    for (node, process, _), some in groupby(enumerate(rows), key=_place):
        records = [row.record for _, row in some]
        if failed_again:
            records = [record._replace(final=0) if record.category else record for record in records]
        roll_up.add(node, process, pack(records))


def _place(numbered: tuple[int, AttemptRow]) -> tuple[int, int, int]:
    number, row = numbered
    return row.node, row.process, number // MOST_AT_ONCE


class ProcessSummary:
    """The whole of ``process_summary.csv``, in the order in which processes were started; call it again and again.

    Attempts that were lost with their worker belong to no process. Rows of processes to which nothing has happened
    since the last time are kept: there may be thousands that have ended.
    """

    def __init__(self) -> None:
        self._rows: dict[Process, tuple[Life, int, str]] = {}

    def __call__(self, roll_up: RollUp, lives: ProcessLives) -> bytes:
        """The file, as it is now."""
        all_sums, nothing = roll_up.processes, Sums()
        processes = dict.fromkeys((*lives.lives, *(process for process in all_sums if process[0] != NO_NODE)))
        rows = []
        for process in processes:
            life, sums = lives.lives.get(process, _UNKNOWN), all_sums.get(process, nothing)
            row = self._rows.get(process)
            if row is None or row[1] != sums.attempts or row[0] is not life:
                text = f"{process[0]},{_name(process[1])},{_life(life)},{_fields(sums)}"
                row = self._rows[process] = (life, sums.attempts, text)
            rows.append(row[2])
        return _table(PROCESS_SUMMARY_COLUMNS, rows)


def node_summary(roll_up: RollUp, lives: ProcessLives) -> bytes:
    """The whole of ``node_summary.csv``; the row without a node has the attempts that were lost with their worker."""
    sums, nothing = roll_up.nodes, Sums()
    with_attempts = Counter(node for node, process in roll_up.processes if process >= 0)
    rows = []
    for node in sorted({*sums, *lives.starts}):
        starts = lives.starts.get(node, Starts())
        processes = max(starts.processes, with_attempts[node])
        rows.append(
            f"{'' if node == NO_NODE else node},{processes},{starts.failed},{starts.seconds:.3f},"
            f"{starts.init_seconds:.3f},{_fields(sums.get(node, nothing))}"
        )
    return _table(NODE_SUMMARY_COLUMNS, rows)


def _name(process: int) -> str:
    return "others" if process == OTHER_PROCESSES else process_name(process)


def _table(columns: Iterable[str], rows: Iterable[str]) -> bytes:
    return ("\n".join([",".join(columns), *rows]) + "\n").encode("utf-8", "backslashreplace")


def _life(life: Life) -> str:
    moments = (life.started, life.ready, life.ended)
    started, ready, ended = ("" if moment is None else utc_text(moment) for moment in moments)
    init = "" if life.ready is None else f"{life.init_seconds:.3f}"
    return f"{life.ip},{life.pid or ''},{started},{ready},{init},{ended},{csv_field(life.why)}"


def _fields(sums: Sums) -> str:
    first, last = (utc_text(moment) if math.isfinite(moment) else "" for moment in (sums.first, sums.last))
    return (
        f"{first},{last},{sums.attempts},{sums.succeeded},{sums.failed},{sums.retried},"
        f"{sums.items},{sums.succeeded_items},{sums.failed_items},"
        f"{sums.elapsed:.3f},{sums.cpu:.3f},{sums.run:.3f}"
    )
