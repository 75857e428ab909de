"""Parquet: sizes of row groups for the driver, and reading some of them in the worker process."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

from prs_dask.datasets.parquet_schema import as_in_first_file
from prs_dask.datasets.read_spec import ReadError
from prs_dask.datasets.source_file import open_bytes
from prs_dask.stores.urls import is_url

if TYPE_CHECKING:
    import pandas as pd

    from prs_dask.datasets.parquet_schema import FirstFile
    from prs_dask.stores import StorageOptions

__all__ = ["read_row_groups", "row_groups"]


def row_groups(file: IO[bytes]) -> list[tuple[int, int]]:
    """(rows, compressed bytes) of each row group, from the file's footer."""
    from pyarrow.parquet import read_metadata

    metadata = read_metadata(file)
    groups = []
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        size = sum(group.column(column).total_compressed_size for column in range(group.num_columns))
        groups.append((group.num_rows, size))
    return groups


def read_row_groups(
    path: str,
    first: int,
    stop: int,
    first_file: FirstFile | None = None,
    keys: tuple[str, ...] = (),
    options: StorageOptions | None = None,
    version: str = "",
) -> pd.DataFrame:
    """The rows of row groups ``first <= index < stop``; of all from ``first`` on where ``stop`` is -1.

    Raises
    ------
    ReadError
        The file is damaged, has fewer row groups than it had when it was listed, or another schema than ``first_file``.
    """
    from pyarrow.lib import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with (
            open_bytes(path, options, version, buffer=0) as file,
            ParquetFile(file, pre_buffer=is_url(path)) as parquet,
        ):
            count = parquet.num_row_groups
            if stop > count:
                raise ReadError(f"{path}: found {count} row groups, {stop} when it was listed: the file was changed")
            # One thread: there is a worker process per core, and hand-overs cost more than they bring.
            table = parquet.read_row_groups(range(first, count if stop < 0 else stop), use_threads=False)
            if first_file is not None:
                table = as_in_first_file(table, path, first_file, keys)
            frame: pd.DataFrame = table.to_pandas(use_threads=False)
            return frame
    except (ArrowException, OSError, UnicodeDecodeError, OverflowError) as error:
        if isinstance(error, OSError) and not (type(error) is OSError and error.errno is None):
            raise  # of the file or its store; pyarrow's own are bare and have no number
        raise ReadError(f"{path}: not a readable Parquet file: {error}") from error
