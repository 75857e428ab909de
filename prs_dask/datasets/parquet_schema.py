"""One schema for all Parquet files of a dataset: that of the first file with rows.

``run()`` gets the same columns with the same types in every mini-batch, in the first file's order. A file with other
columns, or another type of one, fails its own mini-batches with an error that names both files and the column. Not
different are: another order of the columns, types with 32 and 64 bits of offsets (``string`` and ``large_string``),
and a column in which one of the files has nothing at all (type ``null``).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import IO, TYPE_CHECKING, NamedTuple

from prs_dask.errors import ReadError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["FirstFile", "as_in_first_file", "schema_with_rows"]


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
        schema: bytes = parquet.schema_arrow.remove_metadata().serialize().to_pybytes()
        return schema


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
        table = table.drop_columns([name for name in table.column_names if name in keys])
        expected = pa.schema([field for field in expected if field.name not in keys])
    if len(set(expected.names)) < len(expected.names) and table.column_names == expected.names:
        return table  # names that stand twice are in the same order or not the same
    for name in expected.names:
        if name not in table.column_names:
            raise ReadError(f"{path}: has no column {name!r}, but {first.path} has; {_ADVICE}")
    for name in table.column_names:
        if name not in expected.names:
            raise ReadError(f"{path}: has a column {name!r}, but {first.path} has none; {_ADVICE}")
    table = table.select(expected.names)
    for index, field in enumerate(expected):
        found = table.schema.field(index).type
        if pa.types.is_null(found):
            table = table.set_column(index, field.name, pa.nulls(len(table), field.type))
        elif not pa.types.is_null(field.type) and _plain(found) != _plain(field.type):
            raise ReadError(f"{path}: column {field.name!r} is {found}, but {field.type} in {first.path}; {_ADVICE}")
    return table


_MAP_NAMES = re.compile(r" \('[^']*'(, '[^']*')*\)")
_ADVICE = "a dataset's files have one schema: make a dataset of each kind of files"


@lru_cache(maxsize=16)
def _schema(data: bytes) -> pa.Schema:
    import pyarrow as pa

    return pa.ipc.read_schema(pa.py_buffer(data))


def _plain(kind: pa.DataType) -> str:
    """A type without what only the writer's choice of names and offsets says."""
    text = _MAP_NAMES.sub("", str(kind))
    return text.replace("large_", "").replace("_view", "").replace("<element:", "<item:")
