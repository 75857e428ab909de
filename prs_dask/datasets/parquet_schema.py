"""One schema for all Parquet files of a dataset: that of the first file with rows.

``run()`` gets the same columns with the same types in every mini-batch, in the first file's order. A file with other
columns, or another type of one, fails its own mini-batches with an error that names both files and the column. Not
different are: another order of the columns, types with 32 and 64 bits of offsets (``string`` and ``large_string``),
whether something may be null, names and notes of the writer, a dictionary or the values themselves, and a column
(or the lists in it) in which one of the files has nothing at all (type ``null``).
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import IO, TYPE_CHECKING, NamedTuple

from prs_dask.errors import ReadError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["FirstFile", "as_in_first_file", "schema_with_rows"]


_PANDAS = b"pandas"
"""Where pandas notes what Arrow's types do not tell."""


class FirstFile(NamedTuple):
    """Path and schema (serialized) of the file that the others are compared with."""

    path: str
    schema: bytes


def schema_with_rows(file: IO[bytes]) -> bytes | None:
    """The serialized schema of a Parquet file; None if it holds no row."""
    from pyarrow.parquet import ParquetFile

    with ParquetFile(file) as parquet:
        if not parquet.metadata.num_rows:
            return None
        schema = parquet.schema_arrow
        pandas = (schema.metadata or {}).get(_PANDAS)
        serialized: bytes = schema.with_metadata(pandas and {_PANDAS: pandas}).serialize().to_pybytes()
        return serialized


def as_in_first_file(table: pa.Table, path: str, first: FirstFile, keys: tuple[str, ...] = ()) -> pa.Table:
    """The table with its columns as in the first file.

    Parameters
    ----------
    keys
        Columns that come from the path, whatever the files have of that name: they are taken out.

    Raises
    ------
    ReadError
        It has other columns, or another type of one; names both files and the column.
    """
    import pyarrow as pa

    expected = _schema(first.schema)
    if keys:
        table = table.drop_columns([name for name in keys if name in table.column_names])
        expected = pa.schema([field for field in expected if field.name not in keys], expected.metadata)
    names, found = expected.names, table.column_names  # made anew each time they are asked for
    if len(set(names)) < len(names) and found == names:
        return table  # names that stand twice are in the same order or not the same
    if missing := sorted(set(names).difference(found)):
        raise ReadError(f"{path}: has no column {missing[0]!r}, but {first.path} has; {_ADVICE}")
    if surplus := sorted(set(found).difference(names)):
        raise ReadError(f"{path}: has a column {surplus[0]!r}, but {first.path} has none; {_ADVICE}")
    if found != names:
        table = table.select(names)
    differing = [] if table.schema.equals(expected) else [*enumerate(expected)]
    for index, field in differing:
        column = table.column(index)
        if not _alike(column.type, field.type):
            raise ReadError(
                f"{path}: column {field.name!r} is {column.type}, but {field.type} in {first.path}; {_ADVICE}"
            )
        if (as_first := _as_first(column, field.type)) is not column:
            table = table.set_column(index, field.name, as_first)
    return _with_pandas_types(table, expected)


_ADVICE = "a dataset's files have one schema: make a dataset of each kind of files"


@lru_cache(maxsize=16)
def _schema(data: bytes) -> pa.Schema:
    import pyarrow as pa

    return pa.ipc.read_schema(pa.py_buffer(data))


def _alike(one: pa.DataType, other: pa.DataType) -> bool:
    """Whether two types hold the same values: without what only the writer's choice of names and encodings says."""
    import pyarrow as pa

    one, other = _decoded(one), _decoded(other)
    if pa.types.is_null(one) or pa.types.is_null(other):
        return True
    if pa.types.is_struct(one) and pa.types.is_struct(other):
        names = [[field.name for field in kind] for kind in (one, other)]
        return names[0] == names[1] and all(_alike(a.type, b.type) for a, b in zip(one, other, strict=True))
    if pa.types.is_map(one) and pa.types.is_map(other):
        return _alike(one.key_type, other.key_type) and _alike(one.item_type, other.item_type)
    if _is_list(one) and _is_list(other):
        return _alike(one.value_type, other.value_type)
    return _plain(one) == _plain(other)


def _is_list(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return isinstance(kind, pa.ListType | pa.LargeListType | pa.ListViewType | pa.LargeListViewType)


def _decoded(kind: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _plain(kind: pa.DataType) -> str:
    return str(kind).removeprefix("large_").removesuffix("_view")


def _as_first(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """A column of a type like ``kind`` as what becomes the same in pandas."""
    import pyarrow as pa

    if pa.types.is_null(column.type) and not pa.types.is_null(kind):
        return pa.chunked_array([pa.nulls(len(column), kind)])
    if pa.types.is_dictionary(column.type) and not pa.types.is_dictionary(kind):
        return column.cast(column.type.value_type)
    if pa.types.is_dictionary(kind) and not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    if pa.types.is_dictionary(kind) and column.type.ordered != kind.ordered:
        return column.cast(pa.dictionary(column.type.index_type, column.type.value_type, kind.ordered))
    return column


def _with_pandas_types(table: pa.Table, expected: pa.Schema) -> pa.Table:
    """The table with the first file's notes of pandas, which name index columns and extension types.

    A range as index is not in a column: each file keeps its own.
    """
    metadata = dict(table.schema.metadata or {})
    own, first = metadata.pop(_PANDAS, None), (expected.metadata or {}).get(_PANDAS)
    if own == first:
        return table
    if first is not None:
        notes = json.loads(first)
        index = [name for name in notes["index_columns"] if isinstance(name, str)]
        ranges = [one for one in json.loads(own)["index_columns"] if isinstance(one, dict)] if own else []
        metadata[_PANDAS] = json.dumps({**notes, "index_columns": index or ranges}).encode()
    return table.replace_schema_metadata(metadata)
