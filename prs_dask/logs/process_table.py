"""sys/node/<node>/<process>.txt: what one process did, a row an attempt, as CSV; formatted in bulk.

The same attempts as in ``processed_mini-batches.csv``, where those of all processes lie mixed; here with the host and
the pid, for whoever looks at a process from its machine's side.
"""

from __future__ import annotations

from collections.abc import Mapping

from prs_dask.logs.attempt_fields import AttemptFields, attempt_fields
from prs_dask.logs.places import PROCESS_COLUMNS

__all__ = ["PROCESS_HEADER", "format_process_rows"]

PROCESS_HEADER = (",".join(PROCESS_COLUMNS) + "\n").encode()


def format_process_rows(
    ip: str, pid: int, records: bytes | AttemptFields, names: Mapping[int, object] | None = None
) -> bytes:
    """Rows of the table.

    Parameters
    ----------
    ip
        Address of the process' worker; empty where it is unknown.
    pid
        On its host; 0 where it is unknown.
    records
        Packed `AttemptRecord` of this process, or their text.
    names
        What stands as the id of those that have another than their number: ``7[3:5]``.
    """
    fields = attempt_fields(records, names) if isinstance(records, bytes) else records
    place = f"{ip},{pid or ''},"
    rows = [f"{head}{place}{middle}\n" for head, middle in zip(fields.heads, fields.middles, strict=True)]
    return "".join(rows).encode()
