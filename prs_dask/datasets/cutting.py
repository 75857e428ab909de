"""From a dataset's files to descriptors of mini-batches: behaviour, section 3.

Everything here is lazy and in order: a file is opened when its turn comes. A file that cannot
be opened then is handed out whole (``start`` -1), so that its own mini-batch fails, with the
reason, and no other. A file that cannot be cut safely as told stops the listing: InputError.
"""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, Literal, TypeAlias

from prs_dask.datasets.leading_text import (
    LONGEST,
    NO_END,
    check_first_line,
    leading_text,
    open_quote,
    record_starts,
    unreadable,
)
from prs_dask.datasets.local_files import local_version
from prs_dask.datasets.path_keys import Group
from prs_dask.datasets.read_ahead import ReadAhead, Span, all_of, at_edges, at_end, at_start
from prs_dask.datasets.read_spec import HeaderFile, ReadError, ReadSpec
from prs_dask.datasets.record_starts import OpenQuote, RecordStarts
from prs_dask.datasets.records_as_lines import are_records_lines
from prs_dask.datasets.source_file import TextSource, as_file, open_text, version_of
from prs_dask.datasets.store_listing import ListedPath, listed_version
from prs_dask.datasets.text_file import can_be_cut, check_is_text, compression_of, decompressed, text_start, utf8_stream
from prs_dask.mini_batches import FileMiniBatch, MiniBatch, PartMiniBatch, RowGroupMiniBatch, TextMiniBatch
from prs_dask.stores import is_url

__all__ = [
    "READ_FAULTS",
    "FilesWithHeader",
    "blocks",
    "cut_file_groups",
    "cut_files",
    "cut_parquet",
    "cut_table_groups",
    "cut_text",
    "find_header_file",
    "listed_again",
]

FilesWithHeader: TypeAlias = Literal["each", "first", "none"]

READ_FAULTS = (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError)
"""What a missing, forbidden or damaged file makes of reading it (decoding errors are ValueErrors)."""

_UNPLANNED = -1
_TO_THE_END = -1
_NO_ROW = 1 << 62


def cut_files(files: Iterable[str], size: int, input_index: int) -> Iterator[MiniBatch]:
    """``size`` files at a time; the last mini-batch may hold fewer."""
    rest = iter(files)
    while paths := tuple(islice(rest, size)):
        yield listed_files(input_index, paths)


def listed_files(input_index: int, paths: tuple[str, ...], values: tuple[Any, ...] = ()) -> FileMiniBatch:
    """These files, with their versions: local ones are looked at."""
    if ListedPath not in set(map(type, paths)):  # local files, in millions
        return FileMiniBatch(input_index, paths, tuple(map(local_version, paths)), values)
    return FileMiniBatch(input_index, tuple(map(str, paths)), tuple(map(_version, paths)), values)


def listed_again(mini_batch: FileMiniBatch) -> FileMiniBatch:
    """The same with the versions that its local files have now."""
    versions = mini_batch.versions and tuple(
        version if is_url(path) else local_version(path)
        for path, version in zip(mini_batch.paths, mini_batch.versions, strict=True)
    )
    return mini_batch._replace(versions=versions)


def _version(path: str) -> str:
    """What a store has told with the listing; what a local file is now."""
    return listed_version(path) if is_url(path) else local_version(path)


def cut_file_groups(groups: Iterable[Group], input_index: int) -> Iterator[MiniBatch]:
    """The files of each combination of partition keys."""
    for group in groups:
        yield listed_files(input_index, group.paths, group.values)


def cut_table_groups(groups: Iterable[Group], input_index: int, spec: ReadSpec) -> Iterator[MiniBatch]:
    """The files of each combination of partition keys, all of each; nothing of them is read before.

    Versions are those that stores have told with the listing; local files are looked at.
    """
    for group in groups:
        parts = tuple(_whole_file(path, input_index, spec) for path in group.paths)
        yield PartMiniBatch(input_index, parts, group.values, group.types)


def _whole_file(path: str, input_index: int, spec: ReadSpec) -> TextMiniBatch | RowGroupMiniBatch:
    version, name = _version(path), str(path)
    if spec.kind == "parquet":
        return RowGroupMiniBatch(input_index, name, 0, _TO_THE_END, version=version)
    one = spec.header_file
    start = one.start if one is not None and path == one.path else _UNPLANNED
    return TextMiniBatch(input_index, name, start, _TO_THE_END, version=version)


def find_header_file(files: Iterable[str], spec: ReadSpec) -> HeaderFile | None:
    """The first file that is not empty: the one file with a header.

    Raises
    ------
    InputError
        A file before it, or itself, cannot be read.
    """
    for path in files:
        try:
            if leading_text(path, spec) is not None:
                with open_text(path, spec.storage) as text:
                    ranges = _cut_nowhere(path, text, 0, spec, True)
                    return HeaderFile(str(path), next((start for start, _ in ranges), _NO_ROW))
        except OpenQuote as error:
            raise open_quote(path, error.offset, spec) from None
        except READ_FAULTS as error:
            raise unreadable(path, error) from error
    return None


def cut_text(
    files: Iterable[str], size: int, input_index: int, spec: ReadSpec, header: FilesWithHeader
) -> Iterator[MiniBatch]:
    """Blocks of ``size`` bytes of each file, or the file as a whole where it cannot be cut.

    Parameters
    ----------
    header
        Which files begin with a header; ``"first"``: ``spec.header_file``, if it is among these.

    Raises
    ------
    InputError
        A quote is never closed, or not in a header's line though lines are records; the one file with the header
        cannot be read; reading fails half-way.
    """
    header_file = spec.header_file.path if spec.header_file is not None else None
    with ReadAhead(files, partial(_spans_of_text, block=size, spec=spec), spec.storage) as ahead:
        for path in ahead:
            cut = _cut_ranges if can_be_cut(path, spec.encoding) else _cut_nowhere
            begun, version, name = False, listed_version(path), str(path)
            is_the_one = path == header_file
            has_header = header == "each" or is_the_one
            try:
                version = version_of(path, spec.storage)
                with ahead.open(path) as text:
                    for start, stop in cut(path, text, size, spec, has_header):
                        yield TextMiniBatch(input_index, name, start, stop, version=version)
                        begun = True
            except OpenQuote as error:
                raise open_quote(path, error.offset, spec) from None
            except (ReadError, *READ_FAULTS) as error:
                if begun or is_the_one:
                    raise unreadable(path, error) from error
                yield TextMiniBatch(input_index, name, _UNPLANNED, _TO_THE_END, version=version)


def _spans_of_text(path: str, size: int, block: int, spec: ReadSpec) -> Iterable[Span]:
    if not can_be_cut(path, spec.encoding):
        return at_start(size)
    return at_edges(size, block) if spec.kind == "json_lines" or are_records_lines(spec) else all_of(size)


def _cut_ranges(path: str, text: TextSource, size: int, spec: ReadSpec, has_header: bool) -> Iterator[tuple[int, int]]:
    head = text.read_at(0, 16)
    check_is_text(head, spec.encoding)
    records = record_starts(text.read_at, spec, text_start(head))
    first = records.first()
    if has_header and first is not None:
        header, first = first, records.after(first)
        if are_records_lines(spec) and first is not None:
            check_first_line(text.read_at(header, first - header), header, spec)
    yield from blocks(records, first, text.size, size)


def _cut_nowhere(path: str, text: TextSource, size: int, spec: ReadSpec, has_header: bool) -> Iterator[tuple[int, int]]:
    """All rows as one range, its start counted in UTF-8; nothing where there is no row."""
    with as_file(text) as file, decompressed(file, compression_of(path)) as raw:
        stream = utf8_stream(raw, spec.encoding)

        def read_on(offset: int, count: int) -> bytes:
            if offset > LONGEST:
                raise ValueError(NO_END)
            return stream.read(count)

        records = record_starts(read_on, spec)
        first = records.first()
        if has_header and first is not None:
            first = records.after(first)
    if first is not None:
        yield first, _TO_THE_END


def blocks(records: RecordStarts, first: int | None, end: int, size: int) -> Iterator[tuple[int, int]]:
    """Byte ranges of the blocks in which a record starts.

    A record belongs to block i if its first byte s satisfies i·size < s ≤ (i+1)·size (block 0
    also has s = 0): behaviour, section 3.

    Parameters
    ----------
    records
        Where records start; asked in ascending order.
    first
        Start of the first record; None if there is none.
    end
        Size of the file in bytes.
    size
        Bytes of a block, at least 1.
    """
    start = first
    while start is not None:
        edge = max(1, -(-start // size)) * size
        following = records.after(edge)
        yield start, end if following is None else following
        start = following


def cut_parquet(files: Iterable[str], size: int, input_index: int, spec: ReadSpec) -> Iterator[MiniBatch]:
    """Whole row groups, consecutive ones of one file packed up to ``size`` compressed bytes."""
    from prs_dask.datasets.parquet import row_groups

    with ReadAhead(files, lambda _, file_size: at_end(file_size), spec.storage) as ahead:
        for path in ahead:
            version, name = listed_version(path), str(path)
            try:
                version = version_of(path, spec.storage)
                with ahead.open(path) as source, as_file(source, buffer=0) as file:
                    groups = row_groups(file)
            except (ReadError, *READ_FAULTS):
                yield RowGroupMiniBatch(input_index, name, 0, _TO_THE_END, version=version)
                continue
            for first, stop, rows in packed(groups, size):
                yield RowGroupMiniBatch(input_index, name, first, stop, rows, version)


def packed(groups: Sequence[tuple[int, int]], size: int) -> Iterator[tuple[int, int, int]]:
    """Consecutive row groups of at most ``size`` bytes together, at least one: first, end, and rows if there are any.

    Parameters
    ----------
    groups
        Rows and bytes of each.
    """
    first = rows = together = 0
    for index, (group_rows, group_bytes) in enumerate(groups):
        if rows and together + group_bytes > size:
            yield first, index, rows
            first, rows, together = index, 0, 0
        rows += group_rows
        together += group_bytes
    if rows:
        yield first, len(groups), rows
