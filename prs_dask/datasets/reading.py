"""Turn a mini-batch into what ``run()`` receives: the one thing the worker process needs of this package.

Light to import: pandas and pyarrow are loaded with the first table.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from importlib import import_module
from typing import IO, TYPE_CHECKING

from prs_dask.datasets.local_files import check_local_files, gone
from prs_dask.datasets.read_spec import ReadError, ReadSpec
from prs_dask.mini_batches import (
    BisectedMiniBatch,
    FileMiniBatch,
    FrameMiniBatch,
    MiniBatch,
    PartMiniBatch,
    QueryMiniBatch,
    RowGroupMiniBatch,
    TextMiniBatch,
)

if TYPE_CHECKING:
    import pandas as pd

    from prs_dask.stores import StorageOptions

__all__ = ["items_of", "load_libraries", "read"]

PATH_COLUMN = "Path"
_PIECE, _MUCH = 1 << 24, 1 << 28


_LIBRARIES = {
    "files": (),
    "delimited": ("pandas", "pyarrow.csv"),
    "json_lines": ("pandas",),
    "parquet": ("pandas", "pyarrow.parquet"),
    "query": ("pandas", "sqlalchemy"),
    "frame": ("pandas", "pyarrow"),
}


def read(mini_batch: MiniBatch, spec: ReadSpec) -> list[str] | pd.DataFrame:
    """The data of a mini-batch: a list of paths or a DataFrame, a fresh one at every call.

    Paths are handed out when their files have been seen to be what was listed, and so are URLs (``mode="direct"``).
    (Files in stores are brought to the node by ``worker_process.cached_inputs``.)

    Parameters
    ----------
    mini_batch
        A descriptor made by the dataset that ``spec`` comes from.
    spec
        ``dataset.reader()``.

    Raises
    ------
    ReadError
        The data is not what the dataset says, or the file was changed since it was listed; names the file, and
        the line where there are lines.
    OSError
        The file cannot be opened or read.
    """
    if type(mini_batch) is FileMiniBatch:
        if mini_batch.versions:
            check_local_files(mini_batch.paths, mini_batch.versions)
            if spec.mode == "direct":
                from prs_dask.datasets.source_file import check_all_unchanged

                check_all_unchanged(zip(mini_batch.paths, mini_batch.versions, strict=True), spec.storage)
        return list(mini_batch.paths)
    if isinstance(mini_batch, BisectedMiniBatch):
        return items_of(mini_batch, read(mini_batch.source, spec))
    if isinstance(mini_batch, FrameMiniBatch):
        from prs_dask.datasets.frames import from_bytes

        return from_bytes(mini_batch.data)
    if isinstance(mini_batch, QueryMiniBatch):
        from prs_dask.datasets.query import read_query

        return read_query(spec.query)
    if isinstance(mini_batch, PartMiniBatch):
        from prs_dask.datasets.joining import joined

        frames = [_read_part(part, spec, mini_batch.key_types) for part in mini_batch.parts]
        keys = spec.path_format.keys if spec.path_format is not None else ()
        return joined(frames, [part.path for part in mini_batch.parts], spec.kind, keys)
    if not isinstance(mini_batch, RowGroupMiniBatch | TextMiniBatch):
        raise TypeError(f"no reader for {type(mini_batch).__name__}")
    return _read_part(mini_batch, spec, ())


def load_libraries(spec: ReadSpec) -> None:
    """Load what the first mini-batch would: from a slow or busy disk that may take longer than any reading.

    What is wrong with a store is told by the mini-batches that are read from it.
    """
    for name in _LIBRARIES[spec.kind]:
        import_module(name)
    for url in spec.stores:
        from prs_dask.stores import store_of

        with suppress(Exception):
            store_of(url, spec.storage).prepare()


def items_of(mini_batch: BisectedMiniBatch, data: list[str] | pd.DataFrame) -> list[str] | pd.DataFrame:
    """The items of a part, from what was read for it. The index of its rows starts at 0, but for rows that were
    in memory, which keep theirs.

    Raises
    ------
    ReadError
        A table has not as many rows as when it was read as a whole.
    """
    if isinstance(data, list):
        return data
    part = mini_batch.part
    if len(data) != part.of:
        found = f"{mini_batch.source.detail}: found {len(data)} rows, {part.of} when it was read before"
        raise ReadError(f"{found}: its file was changed")
    rows = data.iloc[part.start : part.stop]
    return rows.copy() if isinstance(mini_batch.source, FrameMiniBatch) else rows.reset_index(drop=True)


def _read_part(part: RowGroupMiniBatch | TextMiniBatch, spec: ReadSpec, key_types: tuple[str, ...]) -> pd.DataFrame:
    """Rows of one file, with what its path tells of them."""
    from prs_dask.datasets.source_file import check_unchanged, told_as_changed

    try:
        if isinstance(part, RowGroupMiniBatch):
            from prs_dask.datasets.parquet import read_row_groups

            hive_keys = spec.path_format.keys if spec.path_format is not None and not spec.path_format.template else ()
            frame = read_row_groups(
                part.path, part.first, part.stop, spec.first_file, hive_keys, spec.storage, part.version
            )
        else:
            frame = _read_text(part, spec)
    except Exception as error:
        if changed_since := told_as_changed(part.path, part.version, spec.storage):
            raise changed_since from None
        if isinstance(error, FileNotFoundError) and os.path.isabs(part.path) and not os.path.lexists(part.path):
            raise gone(part.path) from None
        raise
    check_unchanged(part.path, part.version, spec.storage)
    if spec.path_format is not None:
        from prs_dask.datasets.key_columns import add_key_columns

        frame = add_key_columns(frame, part.path, spec.path_format, key_types)
    if spec.include_path:
        if PATH_COLUMN in frame:
            raise ReadError(f"{part.path}: has a column {PATH_COLUMN!r} of its own; set include_path=False")
        frame.insert(0, PATH_COLUMN, part.path)
    if spec.changes:
        from prs_dask.datasets.columns import changed

        return changed(frame, spec.changes, part.path)
    return frame


def _read_text(mini_batch: TextMiniBatch, spec: ReadSpec) -> pd.DataFrame:
    from prs_dask.datasets.leading_text import decoding_error

    try:
        data, first_line = _whole(mini_batch, spec) if mini_batch.stop < 0 else _range(mini_batch, spec)
    except UnicodeError as error:
        raise decoding_error(mini_batch.path, error, spec.encoding) from None
    if spec.kind == "json_lines":
        from prs_dask.datasets.json_lines import parse as parse_json

        return parse_json(data, mini_batch.path, first_line, spec)
    from prs_dask.datasets.delimited import Block, parse

    if not data and mini_batch.start < 0:  # nothing of the file was read before: it may be empty
        import pandas as pd

        return pd.DataFrame()
    names = spec.names or _own_names(mini_batch, spec)
    return parse(Block(data, names, mini_batch.path, first_line), spec)


def _range(mini_batch: TextMiniBatch, spec: ReadSpec) -> tuple[bytes, Callable[[], int]]:
    """Bytes ``start`` to ``stop`` as UTF-8, and what counts the lines before them."""
    from prs_dask.datasets.records_as_lines import LOOK_BEHIND, are_records_lines, check_lines
    from prs_dask.datasets.source_file import open_text
    from prs_dask.datasets.text_file import to_utf8

    path, start, stop = mini_batch.path, mini_batch.start, mini_batch.stop
    before = min(start, LOOK_BEHIND) if are_records_lines(spec) else 0
    with open_text(path, spec.storage, mini_batch.version) as text:
        size = text.size
        if size < stop:
            raise ReadError(f"{path}: found {size} bytes, {stop} or more when it was listed: the file was changed")
        data = text.read_at(start - before, stop - start + before)

    def line_at(offset: int) -> int:
        with open_text(path, spec.storage, mini_batch.version) as text:
            return 1 + sum(
                text.read_at(place, min(1 << 20, offset - place)).count(b"\n") for place in range(0, offset, 1 << 20)
            )

    if are_records_lines(spec):
        check_lines(path, data, start - before, before, line_at, spec, is_last=stop == size)
        data = data[before:]
    return to_utf8(data, spec.encoding), lambda: line_at(start)


def _whole(mini_batch: TextMiniBatch, spec: ReadSpec) -> tuple[bytes, Callable[[], int]]:
    """All rows of a file that is decompressed or decoded as a whole."""
    from prs_dask.datasets.leading_text import record_starts, slices
    from prs_dask.datasets.records_as_lines import are_records_lines, check_lines
    from prs_dask.datasets.text_file import open_stream, utf8_stream

    path, start = mini_batch.path, mini_batch.start
    try:
        with open_stream(path, spec.storage) as raw:
            data = _all_of(utf8_stream(raw, spec.encoding), path)
    except (UnicodeError, ReadError):
        raise
    except OSError as error:
        if error.filename is not None:
            raise
        raise _no_text(path, error) from error
    except Exception as error:  # whatever the decompressor makes of damaged data
        raise _no_text(path, error) from error
    if start < 0:  # the file could not be opened when the mini-batch was made
        records = record_starts(slices(data), spec)
        first = records.first()
        has_header = spec.kind == "delimited" and spec.names is None
        first = records.after(first) if first is not None and has_header else first
        start = len(data) if first is None else first
    if spec.kind == "delimited" and spec.multi_line and b'"' in data:
        _check_end(path, data, spec)
    if are_records_lines(spec):
        check_lines(path, data, 0, 0, lambda place: 1 + data.count(b"\n", 0, place), spec, is_last=True)
    return data[start:], lambda: 1 + data.count(b"\n", 0, start)


def _all_of(stream: IO[bytes], path: str) -> bytes:
    """The whole text, unless it is too large: a small file may be made to decompress to more than any memory."""
    data = bytearray()
    while piece := stream.read(_PIECE):
        data += piece
        if len(data) > _MUCH and len(data) > _free_memory():  # it is needed once more when it is parsed
            raise ReadError(
                f"{path}: its text is of {len(data):,} bytes and more, and there is no memory to read it; it is read "
                "as a whole because it is compressed or in an encoding that cannot be cut: make plain files of UTF-8"
            )
    return bytes(data)


def _free_memory() -> int:
    from psutil import virtual_memory

    return int(virtual_memory().available)


def _no_text(path: str, error: Exception) -> ReadError:
    from prs_dask.datasets.text_file import compression_of

    return ReadError(f"{path}: {'cannot be decompressed: ' if compression_of(path) else ''}{error}")


def _check_end(path: str, data: bytes, spec: ReadSpec) -> None:
    """Refuse a quote that is never closed: the parser would take all that follows for one field."""
    from prs_dask.datasets.leading_text import record_starts, slices
    from prs_dask.datasets.record_starts import OpenQuote

    try:
        record_starts(slices(data), spec).after(len(data))
    except OpenQuote as error:
        raise ReadError(
            f"{path}, byte {error.offset} of its text: a quote that is never closed; mend the file there, or set "
            "support_multi_line=False"
        ) from None


def _own_names(mini_batch: TextMiniBatch, spec: ReadSpec) -> tuple[str, ...]:
    from prs_dask.datasets.source_file import version_of

    version = mini_batch.version or version_of(mini_batch.path, spec.storage)
    return _names_in_header(mini_batch.path, version, spec.separator, spec.encoding, spec.multi_line, spec.storage)


@lru_cache(maxsize=64)
def _names_in_header(
    path: str, version: str, separator: str, encoding: str, multi_line: bool, storage: StorageOptions | None
) -> tuple[str, ...]:
    from prs_dask.datasets.leading_text import column_names, leading_text
    from prs_dask.datasets.record_starts import OpenQuote

    try:
        found = leading_text(path, ReadSpec("delimited", separator, encoding, multi_line, storage=storage))
        if found is None:
            raise ReadError(f"{path}: has no header: the file was changed since it was listed")
        return column_names(found.first, separator)
    except (ValueError, OpenQuote) as error:
        raise ReadError(f"{path}: its header cannot be read: {error}") from None
