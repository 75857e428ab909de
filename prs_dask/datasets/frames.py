"""Rows in memory, on their way: a DataFrame as Arrow IPC bytes and back, and where it is cut.

The frame that comes out equals the slice that went in: values, column names of any kind, index and
dtypes, with categories, time zones, nullable types, and text in columns of dtype object. What differs:
a missing value in a column of dtype object is None, lists, tuples and sets in cells come as NumPy arrays (as from
Parquet), and a DatetimeIndex has no ``freq``. What Arrow cannot carry is refused, with the column named.

Column names and dtypes that Arrow would change travel beside the rows, pickled: both ends run the
same code in one trust domain (see ``mini_batches.descriptors``).
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from prs_dask.errors import Fault, InputError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = ["Piece", "check_columns", "from_bytes", "pieces", "rows_of_pieces", "to_bytes"]

_KEY, _RANGE = b"prs_dask", b"prs_dask.range_index"
_BLOCK_BYTES = 32 << 20
_LARGEST_BLOCK = 1 << 20


class Piece(NamedTuple):
    """Consecutive rows of a frame: the number of the first, a table, and the index where that is a mere range."""

    first: int
    table: pa.Table
    range_index: pd.Index[Any] | None = None


class _Beside(NamedTuple):
    """What Arrow would lose: column names, and the dtypes of columns and index where they come out as others."""

    columns: Any
    dtypes: dict[int, Any]
    index_dtypes: tuple[Any, ...] | None


def check_columns(frame: pd.DataFrame) -> None:
    """See that Arrow can carry every column.

    Raises
    ------
    InputError
        With a fault for each column that it cannot.
    """
    faults = []
    for position, name in enumerate(frame.columns):
        column = frame.iloc[:, [position]]
        # Only where the values are objects does it depend on them.
        column = column.set_axis(["0"], axis=1).reset_index(drop=True)
        try:
            _arrow_table(column if column["0"].dtype == object else column.head(1))
        except InputError as error:
            faults.append(error.faults[0]._replace(name=f"column {name!r}"))
    try:
        _arrow_table(frame.iloc[:, :0])
    except InputError as error:
        faults += error.faults
    if faults:
        raise InputError(faults)


def pieces(frame: pd.DataFrame, size: int) -> Iterator[Piece]:
    """The frame cut into pieces of as many rows as have at most ``size`` bytes, or one row where that has more.

    Where it is cut depends on the frame and ``size`` only. Bytes are those of the values in Arrow's form;
    names, and a categorical's categories, are not counted. A part of the frame is converted at a time.
    """
    import pandas as pd

    total = len(frame)
    is_range = isinstance(frame.index, pd.RangeIndex)
    start, block = 0, _first_block(frame, size)
    while start < total:
        table = _to_table(frame.iloc[start : start + block])
        place, count = 0, table.num_rows
        while place < count:
            fitting = _fitting(table, place, size)
            if place + fitting == count and start + count < total:
                break  # it may go on in the next block
            rows = slice(start + place, start + place + fitting)
            yield Piece(rows.start, table.slice(place, fitting), frame.index[rows] if is_range else None)
            place += fitting
        if not place:
            block *= 2
        start += place


def rows_of_pieces(frame: pd.DataFrame, size: int) -> list[tuple[int, int]]:
    """First row, and the row after the last, of each of the ``pieces``."""
    return [(first, first + table.num_rows) for first, table, _ in pieces(frame, size)]


def _first_block(frame: pd.DataFrame, size: int) -> int:
    row = max(1, int(frame.memory_usage(deep=False).sum()) // max(1, len(frame)))
    return max(1, min(_LARGEST_BLOCK, max(_BLOCK_BYTES, 2 * size) // row))


def _fitting(table: pa.Table, start: int, size: int) -> int:
    """How many rows from ``start`` have at most ``size`` bytes together; at least 1."""
    most: int = table.num_rows - start
    if _bytes_of(table.slice(start)) <= size:
        return most
    low, high = 1, most  # low fits, or is the one row that must; high does not
    while high - low > 1:
        middle = (low + high) // 2
        if _bytes_of(table.slice(start, middle)) <= size:
            low = middle
        else:
            high = middle
    return low


def _bytes_of(table: pa.Table) -> int:
    import pyarrow as pa

    chunks = [chunk for column in table.itercolumns() for chunk in column.iterchunks()]
    size: int = sum(chunk.indices.nbytes if isinstance(chunk, pa.DictionaryArray) else chunk.nbytes for chunk in chunks)
    return size


def _to_table(frame: pd.DataFrame) -> pa.Table:
    """The frame as an Arrow table; an index that is a mere range is not in it."""
    try:
        table = _arrow_table(frame.set_axis([str(number) for number in range(frame.shape[1])], axis=1))
    except InputError:
        check_columns(frame)  # the same, with the columns' own names
        raise
    nothing = table.slice(0, 0).to_pandas()
    dtypes = {
        position: dtype
        for position, (dtype, comes_as) in enumerate(zip(frame.dtypes, nothing.dtypes, strict=True))
        if dtype != comes_as
    }
    index_dtypes = _index_dtypes(frame.index)
    beside = _Beside(frame.columns, dtypes, None if _index_dtypes(nothing.index) == index_dtypes else index_dtypes)
    return table.replace_schema_metadata({**table.schema.metadata, _KEY: pickle.dumps(tuple(beside), 5)})


def _index_dtypes(index: pd.Index[Any]) -> tuple[Any, ...]:
    import pandas as pd

    return tuple(index.dtypes) if isinstance(index, pd.MultiIndex) else (index.dtype,)


def _arrow_table(frame: pd.DataFrame) -> pa.Table:
    import pandas as pd
    import pyarrow as pa

    try:
        is_range = isinstance(frame.index, pd.RangeIndex)
        return pa.Table.from_pandas(frame, nthreads=1, preserve_index=not is_range)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise _refused(frame, error) from None


def _refused(frame: pd.DataFrame, error: Exception) -> InputError:
    """The error that names the column, or the index, that Arrow cannot carry."""
    import pyarrow as pa

    name, dtype = "index", str(frame.index.dtype)
    for column in frame.columns:
        try:
            pa.Table.from_pandas(frame[[column]].reset_index(drop=True), nthreads=1)
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            name, dtype = f"column {column}", str(frame[column].dtype)
            break
    reason = str(error.args[0] if error.args else error).split(": tried", maxsplit=1)[0]
    allowed = "values of one type that Arrow can carry: numbers, text, bytes, dates, times, categories, lists of such"
    return InputError([Fault(name, f"dtype {dtype}: {reason}", allowed, "astype(str), or leave it out")])


def to_bytes(piece: Piece) -> bytes:
    """A piece as an Arrow IPC stream."""
    import pyarrow as pa

    table = piece.table
    if piece.range_index is not None:
        table = table.replace_schema_metadata({**table.schema.metadata, _RANGE: pickle.dumps(piece.range_index, 5)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def from_bytes(data: bytes) -> pd.DataFrame:
    """The frame that ``to_bytes`` was given; a fresh one at every call."""
    import pyarrow as pa

    with pa.ipc.open_stream(data) as reader:
        table = reader.read_all()
    metadata = table.schema.metadata
    beside = _Beside(*pickle.loads(metadata[_KEY]))  # noqa: S301 - see the module's docstring
    frame: pd.DataFrame = table.to_pandas(use_threads=False)
    for position, dtype in beside.dtypes.items():
        column = str(position)
        frame[column] = _as(table.column(column), frame[column], dtype)
    frame.columns = beside.columns
    if _RANGE in metadata:
        frame.index = pickle.loads(metadata[_RANGE])  # noqa: S301
    elif beside.index_dtypes is not None:
        frame.index = _index_as(frame.index, beside.index_dtypes)
    return frame


def _as(values: pa.ChunkedArray, column: pd.Series[Any], dtype: Any) -> pd.Series[Any]:
    import numpy as np
    import pandas as pd

    if dtype != np.dtype(object):
        return column.astype(dtype)
    objects = np.empty(len(column), dtype=object)
    objects[:] = values.to_pylist()
    return pd.Series(objects, index=column.index, dtype=object)


def _index_as(index: pd.Index[Any], dtypes: tuple[Any, ...]) -> pd.Index[Any]:
    import pandas as pd

    if not isinstance(index, pd.MultiIndex):
        plain: pd.Index[Any] = index.astype(dtypes[0])
        return plain
    levels = [index.get_level_values(level).astype(dtype) for level, dtype in enumerate(dtypes)]
    return pd.MultiIndex.from_arrays(levels, names=index.names)
