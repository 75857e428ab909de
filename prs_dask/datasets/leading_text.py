"""The beginning of a text file: its first record, which may be a header, and its head.

Used by the driver (names and types of columns) and by the worker process (a file's own header).
"""

from __future__ import annotations

import csv
import io
from contextlib import suppress
from typing import NamedTuple

from prs_dask.datasets.quotes import unclosed_in_line
from prs_dask.datasets.read_spec import ReadError, ReadSpec
from prs_dask.datasets.record_starts import OpenQuote, ReadAt, RecordStarts
from prs_dask.datasets.records_as_lines import are_records_lines
from prs_dask.datasets.text_file import open_stream, utf8_stream
from prs_dask.errors import Fault, InputError

__all__ = [
    "LONGEST",
    "NO_END",
    "LeadingText",
    "check_first_line",
    "column_names",
    "decoding_error",
    "leading_text",
    "open_quote",
    "record_starts",
    "slices",
    "unreadable",
]

_PIECE = 1 << 16
LONGEST = 1 << 28
"""Bytes of a first record, as text; what goes on for longer is no table (or was made to fill the memory)."""
NO_END = f"its first record does not end within {LONGEST >> 20} MiB"


class LeadingText(NamedTuple):
    """The first record of a text, and whole records that follow it; both UTF-8."""

    first: bytes
    following: bytes


def record_starts(read_at: ReadAt, spec: ReadSpec, start: int = 0) -> RecordStarts:
    """Where the records of a file of this dataset start."""
    if spec.kind == "json_lines":
        return RecordStarts(read_at, start=start, quoted=False, only_newline=True)
    return RecordStarts(read_at, start=start, separator=spec.separator.encode(), quoted=spec.multi_line)


def slices(data: bytes) -> ReadAt:
    """Bytes in memory, to be read like a file."""
    return lambda offset, size: data[offset : offset + size]


def leading_text(path: str, spec: ReadSpec, at_least: int = 0) -> LeadingText | None:
    """The first record and, of what follows it, at least ``at_least`` bytes if there are so many.

    Less where a record behind the second is longer than that: it is left out, for it may not fit into memory. None
    if the file holds no record. Raises OpenQuote if it ends, or goes on for 256 MiB, inside of quotes before that;
    where lines are records, if the first one ends so. Raises ValueError where it goes on so long otherwise.
    """
    with open_stream(path, spec.storage) as raw:
        stream = utf8_stream(raw, spec.encoding)
        data = b""
        while True:
            piece = stream.read(max(_PIECE, at_least, len(data)))
            data += piece
            try:
                found = _split(data, spec, at_least, complete=not piece)
            except OpenQuote:
                if not piece or len(data) > LONGEST or are_records_lines(spec):
                    raise
                continue  # the quote may be closed further on
            if found or not piece:
                return found
            if len(data) > LONGEST:
                raise ValueError(NO_END)


def _split(data: bytes, spec: ReadSpec, at_least: int, *, complete: bool) -> LeadingText | None:
    records = record_starts(slices(data), spec)
    first = records.first()
    if first is None:
        return None
    second = records.after(first)
    if are_records_lines(spec) and (second is not None or complete):
        check_first_line(data[first:second], first, spec)
    if second is None:
        return LeadingText(data[first:], b"") if complete else None
    stop: int | None = second
    if at_least:
        try:
            stop = records.after(second + at_least - 1)
        except OpenQuote:
            if complete or (stop := _start_of_long_record(data, spec, second, at_least)) is None:
                raise
        if stop is None:
            stop = len(data) if complete else _start_of_long_record(data, spec, second, at_least)
    return None if stop is None else LeadingText(data[first:second], data[second:stop])


def _start_of_long_record(data: bytes, spec: ReadSpec, second: int, at_least: int) -> int | None:
    """Where the record begins whose end is still to be read, if it is long and others follow ``second`` before it."""
    if len(data) - second < 2 * at_least:
        return None
    records = record_starts(slices(data), spec, second)
    last = records.first()
    following = last
    with suppress(OpenQuote):
        while following is not None:
            last = following
            following = records.after(following)
    return last if last != second else None


def check_first_line(line: bytes, offset: int, spec: ReadSpec) -> None:
    """Raise OpenQuote where the first line, which is all of the first record, ends inside of quotes."""
    place = unclosed_in_line(line, spec.separator.encode())
    if place is not None:
        raise OpenQuote(offset + place)


def column_names(record: bytes, separator: str) -> tuple[str, ...]:
    """Column names from a header record, each once and none empty, named as pandas names them.

    Raises ValueError where the record is no text, or csv finds no fields in it.

    >>> column_names(b'a,"b c",a,\\n', ",")
    ('a', 'b c', 'a.1', 'Unnamed: 3')
    """
    try:
        fields = next(csv.reader(io.StringIO(record.decode(), newline=""), delimiter=separator))
    except csv.Error as error:
        raise ValueError(f"its first record cannot be read: {error}") from None
    names: dict[str, None] = {}
    for index, field in enumerate(fields):
        name = base = field or f"Unnamed: {index}"
        count = 0
        while name in names:
            count += 1
            name = f"{base}.{count}"
        names[name] = None
    return tuple(names)


def open_quote(path: str, offset: int, spec: ReadSpec) -> InputError:
    """The error for a file that cannot be cut, because of a quote that is open where its record has to end."""
    fault = Fault(
        "support_multi_line",
        f"a quote at byte {offset} of {path!r} that is never closed",
        "quoted fields that end in the same file",
        "mending the file there",
    )
    if are_records_lines(spec):
        fault = Fault(
            "support_multi_line",
            f"False, and a quote at byte {offset} of {path!r} that is open at the end of its line",
            "quoted fields that end in the same line",
            "support_multi_line='auto', or mending the file there",
        )
    return InputError([fault])


def unreadable(path: str, error: Exception) -> InputError:
    """The error for a file that must be read to go on, and cannot be."""
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return InputError([Fault("path", f"{path!r}: {reason}", "a file that can be read to its end")])


def decoding_error(path: str, error: UnicodeError, encoding: str) -> ReadError:
    """The error for bytes that are no text in the dataset's encoding."""
    return ReadError(f"{path}: found bytes that are not {encoding} ({error}); set encoding= to the file's own")
