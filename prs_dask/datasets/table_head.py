"""What the first files of a table tell of all of it: names, types, schema. Read once for a dataset, in the driver.

Files that cannot be read are passed over: their own mini-batches will fail. Only where the names of all columns are
to come from one file, it has to be readable.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from itertools import islice
from typing import TypeAlias

from prs_dask.datasets.cutting import READ_FAULTS, FilesWithHeader
from prs_dask.datasets.leading_text import LeadingText, column_names, leading_text, open_quote, unreadable
from prs_dask.datasets.parquet_schema import FirstFile, schema_with_rows
from prs_dask.datasets.read_spec import ReadError, ReadSpec
from prs_dask.datasets.record_starts import OpenQuote
from prs_dask.datasets.source_file import open_bytes

__all__ = ["column_types", "first_file", "names_for_all"]

_HEAD_BYTES = 1 << 20
_FILES_TRIED = 10
_SEPARATORS = ",;\t|"
_LOGGER = logging.getLogger(__name__)

ColumnTypes: TypeAlias = tuple[tuple[str, str], ...]


def first_file(files: Iterator[str], spec: ReadSpec) -> FirstFile | None:
    """The first Parquet file with rows, whose schema all others have to have."""
    for path in islice(files, _FILES_TRIED):
        with suppress(*READ_FAULTS), open_bytes(path, spec.storage, buffer=0) as file:
            if schema := schema_with_rows(file):
                return FirstFile(path, schema)
    return None


def names_for_all(files: Iterator[str], spec: ReadSpec, header: FilesWithHeader) -> tuple[str, ...] | None:
    """The names of the columns of every file; None: each file has its own.

    Raises
    ------
    InputError
        The first file that is not empty, or one before it, cannot be read.
    """
    if spec.kind == "json_lines" or header == "each":
        return None
    for path in files:
        try:
            head = leading_text(path, spec)
            names = column_names(head.first, spec.separator) if head else ()
        except OpenQuote as error:
            raise open_quote(path, error.offset, spec) from None
        except READ_FAULTS as error:
            raise unreadable(path, error) from error
        if head:
            return names if header == "first" else tuple(f"Column{n}" for n in range(1, len(names) + 1))
    return ()


def column_types(
    files: Iterator[str], spec: ReadSpec, header: FilesWithHeader, names: tuple[str, ...] | None
) -> ColumnTypes:
    """From the first file that has rows and can be read; where none can be, empty: each block has its own."""
    has_header = header != "none"
    for path in islice(files, _FILES_TRIED):
        try:
            head = leading_text(path, spec, _HEAD_BYTES)
            if head is None:
                continue
            rows = head.following if has_header else head.first + head.following
            has_header = header == "each"
            if rows and (types := _types_in(path, head, rows, spec, names)):
                return types
        except (ReadError, OpenQuote, *READ_FAULTS):
            continue
    return ()


def _types_in(path: str, head: LeadingText, rows: bytes, spec: ReadSpec, names: tuple[str, ...] | None) -> ColumnTypes:
    if spec.kind == "json_lines":
        from prs_dask.datasets import json_lines

        return json_lines.infer_types(rows, path)
    from prs_dask.datasets.delimited import Block, infer_types

    own = column_names(head.first, spec.separator)
    if len(own) == 1 and (other := next((one for one in _SEPARATORS if one in own[0]), None)):
        _tell_separator(path, own[0][:80], spec.separator, other)
    return infer_types(Block(rows, names or own, path, lambda: 1), spec)


@lru_cache(maxsize=1000)
def _tell_separator(path: str, first: str, separator: str, other: str) -> None:
    """Log, once for a file, that it may have another separator: such a table is read, as one column."""
    _LOGGER.warning(
        "%s: its first line %r has no %r, so its rows have one column; if they have more, set separator=%r",
        path, first, separator, other,
    )  # fmt: skip
