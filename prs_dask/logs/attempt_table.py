"""sys/job_report/processed_mini-batches.csv: one row an attempt, formatted in bulk.

``Status`` tells rows apart that would be counted twice otherwise: ``Failed attempt`` was tried again,
``Succeeded`` and ``Failed`` are final, one for each mini-batch, or one for each part of a bisected one (``7[3:5]``).
``Total``, ``Succeeded`` and ``Failed`` count items: those of the final rows add up to the summary's. A mini-batch has
failed if one of its final rows says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prs_dask.attempts.records import AttemptError, AttemptRecord, Category, unpack
from prs_dask.logs.places import ATTEMPT_COLUMNS
from prs_dask.logs.text import UtcTexts, csv_field, process_label

__all__ = ["FAILED", "FAILED_ATTEMPT", "HEADER", "SUCCEEDED", "Details", "format_attempts"]

HEADER = (",".join(ATTEMPT_COLUMNS) + "\n").encode()
SUCCEEDED, FAILED, FAILED_ATTEMPT = "Succeeded", "Failed", "Failed attempt"

Details = Callable[[int], str] | Mapping[int, str] | None
"""What a mini-batch holds, in a few words, by its id; empty or missing where nobody knows any more."""

_LABELS = {int(category): category.label for category in Category}


def format_attempts(
    node: int,
    process: int,
    records: bytes,
    details: Details = None,
    errors: Mapping[int, AttemptError] | None = None,
    redact: Callable[[str], str] = str,
    names: Mapping[int, object] | None = None,
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
    """
    known = errors or {}
    look_up = details.get if isinstance(details, Mapping) else details
    label = process_label(node, process)
    rows = []
    when_text = UtcTexts()
    for record in unpack(records):
        number, attempt, category, _, items, results, _, started, elapsed, _, run, cpu = record
        when = when_text(started)
        detail = look_up(number) if look_up is not None else None
        if detail:
            detail = csv_field(redact(detail))
        name = names.get(number, number) if names else number
        if category:
            rows.append(_failed_row(name, record, label, when, detail or "", known.get(number), redact))
        else:
            good = results if results < items else items
            rows.append(
                f"{name},{attempt},{label},{when},{items},{good},{items - good},"
                f"{elapsed:.6f},{cpu:.6f},{run:.6f},Succeeded,,,{detail or ''}\n"
            )
    return "".join(rows).encode("utf-8", "backslashreplace")


def _failed_row(
    name: object,
    record: AttemptRecord,
    label: str,
    when: str,
    detail: str,
    error: AttemptError | None,
    redact: Callable[[str], str],
) -> str:
    message = csv_field(redact(f"{error.type}: {error.message}")) if error is not None else ""
    status = FAILED if record.final else FAILED_ATTEMPT
    category = _LABELS.get(record.category, str(record.category))
    return (
        f"{name},{record.attempt},{label},{when},{record.items},0,{record.items},"
        f"{record.elapsed:.6f},{record.cpu:.6f},{record.run:.6f},{status},{category},{message},{detail}\n"
    )
