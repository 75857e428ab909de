"""sys/node/<node>/<process>.txt: what one process did, a row an attempt, as CSV; formatted in bulk.

The same attempts as in ``processed_mini-batches.csv``, where those of all processes lie mixed; here with the host and
the pid, for whoever looks at a process from its machine's side.
"""

from __future__ import annotations

from collections.abc import Mapping

from prs_dask.attempts.records import unpack
from prs_dask.logs.attempt_table import FAILED, FAILED_ATTEMPT, SUCCEEDED
from prs_dask.logs.places import PROCESS_COLUMNS
from prs_dask.logs.text import UtcTexts

__all__ = ["PROCESS_HEADER", "format_process_rows"]

PROCESS_HEADER = (",".join(PROCESS_COLUMNS) + "\n").encode()


def format_process_rows(ip: str, pid: int, records: bytes, names: Mapping[int, object] | None = None) -> bytes:
    """Rows of the table.

    Parameters
    ----------
    ip
        Address of the process' worker; empty where it is unknown.
    pid
        On its host; 0 where it is unknown.
    records
        Packed `AttemptRecord`, of this process.
    names
        What stands as the id of those that have another than their number: ``7[3:5]``.
    """
    place = f"{ip},{pid or ''}"
    rows, when = [], UtcTexts()
    for record in unpack(records):
        number, attempt, category, final, items, results, _, started, elapsed, _, run, cpu = record
        good = 0 if category else min(results, items)
        status = SUCCEEDED if not category else FAILED if final else FAILED_ATTEMPT
        name = names.get(number, number) if names else number
        rows.append(
            f"{name},{attempt},{place},{when(started)},{items},{good},{items - good},"
            f"{elapsed:.6f},{cpu:.6f},{run:.6f},{status}\n"
        )
    return "".join(rows).encode()
