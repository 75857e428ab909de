"""sys/job_report/processed_mini-batches.csv: one row an attempt, formatted in bulk.

``Status`` tells rows apart that would be counted twice otherwise: ``Failed attempt`` was tried again, or failed while
another attempt went on; ``Overtaken`` is none that failed, another attempt was faster.
``Succeeded`` and ``Failed`` are final, one for each mini-batch, or one for each part of a bisected one (``7[3:5]``).
``Total``, ``Succeeded`` and ``Failed`` count items: those of the final rows add up to the summary's. A mini-batch has
failed if one of its final rows says so. ``Read Seconds`` is what reading the mini-batch took; where a resume goes on
with a table of an earlier version, which has no such column, the table stays as it began.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prs_dask.attempts.records import AttemptError, Category
from prs_dask.logs.attempt_fields import FAILED, FAILED_ATTEMPT, OVERTAKEN, SUCCEEDED, AttemptFields, attempt_fields
from prs_dask.logs.places import ATTEMPT_COLUMNS
from prs_dask.logs.roll_up import RECORD
from prs_dask.logs.text import MOST_OF_A_FIELD, csv_field, process_label

__all__ = [
    "FAILED",
    "FAILED_ATTEMPT",
    "HEADER",
    "OVERTAKEN",
    "READ",
    "SUCCEEDED",
    "Details",
    "format_attempts",
    "has_read_seconds",
]

HEADER = (",".join(ATTEMPT_COLUMNS) + "\n").encode()
READ = "Read Seconds"

Details = Callable[[int], str] | Mapping[int, str] | None
"""What a mini-batch holds, in a few words, by its id; empty or missing where nobody knows any more."""

_LABELS = {int(category): category.label for category in Category}
_CATEGORY = RECORD.fields["category"][1]  # type: ignore[index]


def has_read_seconds(header: bytes) -> bool:
    """Does a table that begins with this line have the column? Where there is no such line it will."""
    return not header or READ in header.decode("utf-8", "replace").rstrip("\r\n").split(",")


def format_attempts(
    node: int,
    process: int,
    records: bytes,
    details: Details = None,
    errors: Mapping[int, AttemptError] | None = None,
    redact: Callable[[str], str] = str,
    names: Mapping[int, object] | None = None,
    *,
    fields: AttemptFields | None = None,
    read_seconds: bool = True,
) -> bytes:
    """Rows of the table.

    Parameters
    ----------
    node, process
        Where the attempts ran.
    records
        Packed `AttemptRecord`.
    details
        See `Details`.
    errors
        By mini-batch id, for those that failed.
    redact
        Takes secrets out of messages and details.
    names
        What stands as the id of those that have another than their number: ``7[3:5]``.
    fields
        The records' text, where it is made already.
    read_seconds
        Whether the table has the column ``Read Seconds``.
    """
    fields = fields or attempt_fields(records, names)
    label = process_label(node, process)
    look_up = details.get if isinstance(details, Mapping) else details
    told = [look_up(number) or "" for number in fields.numbers] if look_up is not None else [""] * len(fields.numbers)
    told = _fields(told, redact)
    ends = [f",{read}\n" for read in fields.reads] if read_seconds else ["\n"] * len(told)
    rows = [
        f"{head}{label},{middle},,,{detail}{end}"
        for head, middle, detail, end in zip(fields.heads, fields.middles, told, ends, strict=True)
    ]
    for at in fields.failed:
        error = (errors or {}).get(fields.numbers[at])
        message = csv_field(redact(f"{error.type}: {error.message}")) if error is not None else ""
        number = records[at * RECORD.itemsize + _CATEGORY]
        category = _LABELS.get(number, str(number))
        rows[at] = f"{fields.heads[at]}{label},{fields.middles[at]},{category},{message},{told[at]}{ends[at]}"
    return "".join(rows).encode("utf-8", "backslashreplace")


def _fields(texts: list[str], redact: Callable[[str], str]) -> list[str]:
    """Each text without secrets, as one CSV field on one line.

    Nearly all texts need no more than quotes for a comma, and that is asked of all of them at once: what holds for
    them together, with blanks between, holds for each: two blanks in a row may be one at the end of a text.
    """
    if not any(texts):
        return texts
    joined = " ".join(texts)
    if (
        joined.isprintable()
        and '"' not in joined
        and "  " not in joined
        and " " not in (joined[0], joined[-1])
        and max(map(len, texts)) <= MOST_OF_A_FIELD
        and redact(joined) == joined
    ):
        return [f'"{text}"' if "," in text else text for text in texts] if "," in joined else texts
    return [csv_field(redact(text)) for text in texts]
