"""What a worker process has to know of a dataset to read any of its mini-batches.

One value per input of a step, sent once to each worker process; what differs from one
mini-batch to the next is in its descriptor.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from prs_dask.errors import ReadError

if TYPE_CHECKING:
    from prs_dask.datasets.parquet_schema import FirstFile
    from prs_dask.datasets.path_format import PathFormat
    from prs_dask.stores import StorageOptions

__all__ = ["HeaderFile", "Kind", "ReadError", "ReadSpec", "UnsafeCut"]

Kind: TypeAlias = Literal["files", "delimited", "json_lines", "parquet", "query", "frame"]


class UnsafeCut(ReadError):
    """A file that cannot be cut safely as told: other mini-batches of it may be wrong too, so the step run ends."""


class HeaderFile(NamedTuple):
    """The one file of a dataset that begins with a header.

    Parameters
    ----------
    start
        Where its first row starts in its text (as UTF-8); beyond its end where it has none.
    """

    path: str
    start: int


class ReadSpec(NamedTuple):
    """How to read the mini-batches of one dataset.

    A named tuple: ``dataclasses`` alone would cost a third of a worker process's start.

    Parameters
    ----------
    kind
        What the dataset's files are.
    separator
        One ASCII character between the fields of delimited text.
    encoding
        Python's name of the text's encoding.
    multi_line
        Whether a quoted field may hold line breaks.
    names
        Column names of all files; None: each file has its own header.
    header_file
        The file that the names come from and whose header is no row; None: not one file alone begins with a header.
    column_types
        For each column the type inferred from the dataset's head, as (name, type) with type one of
        ``bool``, ``int64``, ``uint64``, ``float64``, ``str``. Columns not listed get a mini-batch's own.
    dtype
        What the user asked for: one pandas dtype for all columns, a mapping by column name, or None.
    include_path
        Whether a first column ``Path`` tells the file.
    query
        The SQL query (``datasets.query.Query``) where that is what the rows come from.
    changes
        What is done to the columns of each mini-batch in the end (``datasets.columns.ColumnChange``).
    path_format
        The keys in the files' paths, which are the last columns; None: none.
    first_file
        The schema that all Parquet files have to have; None: each its own.
    keys
        The partition keys that mini-batches are made by; their ``values`` are in this order.
    storage
        Options of the store, never shown; None: it needs none.
    stores
        A URL in each store that files lie in.
    mode
        ``"download"``: files of a store reach ``run()`` as local paths, ``"direct"``: as URLs; None: nothing
        lies in a store.
    """

    kind: Kind
    separator: str = ","
    encoding: str = "utf-8"
    multi_line: bool = True
    names: tuple[str, ...] | None = None
    header_file: HeaderFile | None = None
    column_types: tuple[tuple[str, str], ...] = ()
    dtype: Mapping[str, Any] | Any = None
    include_path: bool = False
    query: Any = None
    changes: tuple[Any, ...] = ()
    path_format: PathFormat | None = None
    keys: tuple[str, ...] = ()
    first_file: FirstFile | None = None
    storage: StorageOptions | None = None
    stores: tuple[str, ...] = ()
    mode: Literal["download", "direct"] | None = None

    @property
    def in_cache(self) -> bool:
        """Do its files reach ``run()`` by the node's cache?"""
        return self.kind == "files" and self.mode == "download"
