"""TabularDataset: items are rows; ``run()`` receives them as a pandas DataFrame."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from prs_dask.datasets.cutting import (
    FilesWithHeader,
    cut_parquet,
    cut_table_groups,
    cut_text,
    find_header_file,
)
from prs_dask.datasets.dataset import Dataset, PathLike, Paths, absolute_paths
from prs_dask.datasets.path_keys import Group, column_faults, with_keys
from prs_dask.datasets.read_spec import HeaderFile, ReadSpec
from prs_dask.datasets.table_head import column_types, first_file, names_for_all
from prs_dask.datasets.text_options import delimited_spec, json_lines_spec
from prs_dask.errors import Fault, InputError, SettingsError
from prs_dask.mini_batches import MiniBatch

if TYPE_CHECKING:
    import dask.dataframe as dd
    import pandas as pd
    from sqlalchemy import URL

__all__ = ["TabularDataset"]


@dataclass(frozen=True, kw_only=True)
class TabularDataset(Dataset):
    """Rows as items: a mini-batch is a pandas DataFrame.

    Make one with one of its ``from_...`` methods.

    Parameters
    ----------
    spec
        How the files are read, before anything is known of their columns.
    header
        Which files begin with a header.
    """

    kind: ClassVar[Literal["file", "tabular"]] = "tabular"
    item_word: ClassVar[str] = "row"
    default_mini_batch_size: ClassVar[int] = 1 << 20

    spec: ReadSpec
    header: FilesWithHeader = "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "spec", self.spec._replace(storage=self.storage, stores=self.stores))

    @classmethod
    def from_delimited_files(
        cls,
        path: Paths,
        *,
        separator: str = ",",
        header: str = "all_files_same_headers",
        encoding: str = "utf8",
        support_multi_line: bool | Literal["auto"] = "auto",
        dtype: Any = None,
        partition_format: str | None = None,
        include_path: bool = False,
        storage_options: Mapping[str, Any] | None = None,
    ) -> TabularDataset:
        """A dataset of the rows of delimited text files (CSV, TSV).

        Each file is cut into blocks of about ``mini_batch_size`` bytes, between records; files that are
        compressed (``.gz``, ``.bz2``, ``.xz``, ``.zst``) or in an encoding that cannot be cut (UTF-16) are one
        mini-batch each.

        Parameters
        ----------
        path
            As for ``FileDataset.from_files``.
        separator
            One ASCII character.
        header
            ``"all_files_same_headers"``: each file begins with a header; ``"only_first_file"``: only the first
            does, and names the columns of all; ``"no_headers"``: columns are ``Column1``, ``Column2``, ...
        encoding
            Python's name of the encoding. A UTF-8 byte order mark is no part of the text.
        support_multi_line
            Whether quoted fields may hold line breaks. ``True`` and ``"auto"``: yes; each file is scanned once
            before its mini-batches are handed out. ``False``: a record is a line, and only a little is read at
            each block's edge. If a quote is open at a line's end all the same, the step run ends with an
            error that says where (a file's last mini-batch just fails).
        dtype
            A pandas dtype for all columns, or a mapping from column to dtype. Values that do not fit fail
            their mini-batch. Without it types are inferred once from the first 1 MiB, and where a
            block does not fit it is read with wider ones.
        partition_format
            As for ``FileDataset.from_files``. Each key is a column, the last ones, typed by the paths of the
            first 1000 files (with ``partition_keys`` by those of all): an int, float or datetime, else text.
        include_path
            Whether a first column ``Path`` tells each row's file.
        storage_options
            Options of the store; local files need none.

        Raises
        ------
        SettingsError
            Settings that cannot work, all at once.
        """
        spec, files_with_header = delimited_spec(separator, header, encoding, support_multi_line, dtype, include_path)
        return cls(
            paths=absolute_paths(path),
            storage_options=storage_options,
            partition_format=partition_format,
            spec=spec,
            header=files_with_header,
        )

    @classmethod
    def from_json_lines_files(
        cls,
        path: Paths,
        *,
        encoding: str = "utf8",
        partition_format: str | None = None,
        include_path: bool = False,
        storage_options: Mapping[str, Any] | None = None,
    ) -> TabularDataset:
        """A dataset of the objects of JSON Lines files: one object per line, blank lines skipped.

        Parameters
        ----------
        path, encoding, partition_format, include_path, storage_options
            As for ``from_delimited_files``.
        """
        spec = json_lines_spec(encoding, include_path)
        return cls(
            paths=absolute_paths(path), storage_options=storage_options, partition_format=partition_format, spec=spec
        )

    @classmethod
    def from_parquet_files(
        cls,
        path: Paths,
        *,
        partition_format: str | None = None,
        include_path: bool = False,
        storage_options: Mapping[str, Any] | None = None,
    ) -> TabularDataset:
        """A dataset of the rows of Parquet files; a row group is never cut.

        All files have the columns and types of the first one with rows, in any order: a file that has not fails
        its mini-batches with an error that names both files and the column.

        Keys of hive folders (``Store=2/Brand=a%2Fb/``) are columns, the last ones, as those of ``partition_format``
        are; a column of that name in the files gives way to them.

        Parameters
        ----------
        path, partition_format, include_path, storage_options
            As for ``from_delimited_files``.
        """
        spec = ReadSpec("parquet", include_path=include_path)
        return cls(
            paths=absolute_paths(path), storage_options=storage_options, partition_format=partition_format, spec=spec
        )

    @classmethod
    def from_sql_query(
        cls, connection: str | URL, query: str, *, parameters: Mapping[str, Any] | None = None, dtype: Any = None
    ) -> TabularDataset:
        """A dataset of the rows of a SQL query: one mini-batch, whatever its size.

        The worker process that runs the mini-batch connects, runs the query and reads its result, as
        ``pandas.read_sql`` does; whatever the query changes is rolled back. Needs ``pip install "prs-dask[sql]"``
        and the database's driver, here and on the workers.

        Parameters
        ----------
        connection
            A SQLAlchemy URL (``postgresql+psycopg://user:password@host/database``, ``sqlite:///sales.db``), as text or
            as ``sqlalchemy.URL``. Its password is never shown or written. A live connection cannot
            travel to another process and is refused, and so is a SQLite database in memory.
        query
            A SELECT statement.
        parameters
            Values for the ``:names`` in the query.
        dtype
            As for ``pandas.read_sql``: a dtype, or a mapping from column to dtype.

        Raises
        ------
        SettingsError
            Something else was given, or SQLAlchemy, the dialect or its driver is not installed. Whether the
            database can be reached is looked at by ``check()``.
        """
        from prs_dask.datasets.query_dataset import query_dataset

        return query_dataset(connection, query, parameters, dtype)

    @classmethod
    def from_pandas(cls, df: pd.DataFrame) -> TabularDataset:
        """A dataset of the rows of a DataFrame in memory.

        A mini-batch is as many rows as have at most ``mini_batch_size`` bytes (in Arrow's form), at least one. The
        frame that ``run()`` receives equals the slice: its index, and all dtypes with categories and
        time zones. In columns of dtype object a missing value comes as None, and lists as NumPy arrays.

        Parameters
        ----------
        df
            Not copied; do not change its values before the run has ended.

        Raises
        ------
        SettingsError
            It is no DataFrame. Columns that Arrow cannot carry are refused by ``check()``.
        """
        from prs_dask.datasets.frame_dataset import pandas_dataset

        return pandas_dataset(df)

    @classmethod
    def from_dask(cls, ddf: dd.DataFrame) -> TabularDataset:
        """A dataset of the partitions of a Dask DataFrame, in order.

        A partition is one mini-batch, or several where it has more than ``mini_batch_size`` bytes (in Arrow's
        form); empty ones give none. Partitions are computed as the step run needs them, on the cluster of the
        current client if there is one, some ahead, else one after the other in this process: never all are
        in memory.

        Parameters
        ----------
        ddf
            A Dask DataFrame.
        """
        from prs_dask.datasets.frame_dataset import dask_dataset

        return dask_dataset(ddf)

    @classmethod
    def from_mltable(cls, folder: PathLike, *, storage_options: Mapping[str, Any] | None = None) -> TabularDataset:
        """The table that an MLTable folder of Azure Machine Learning describes.

        Understood in the file ``MLTable``: ``paths`` (``file``, ``folder``, ``pattern``, relative to the folder);
        ``read_delimited``, ``read_json_lines`` or ``read_parquet`` with their options;
        ``extract_columns_from_partition_format``, ``keep_columns``, ``drop_columns`` and ``convert_column_types`` (int,
        float, string, boolean, datetime with formats). Anything else is refused.

        Parameters
        ----------
        folder
            The folder, or the file ``MLTable`` in it.
        storage_options
            For the stores of its paths.

        Raises
        ------
        SettingsError
            Everything in the file that is not understood, at once; or it reads no table (``FileDataset.from_mltable``).
        """
        from prs_dask.datasets.mltable import read_mltable

        dataset = read_mltable(folder, storage_options)
        if not isinstance(dataset, TabularDataset):
            found = f"an MLTable file without a reader, in {os.fspath(folder)!r}"
            allowed = "read_delimited, read_json_lines or read_parquet among its transformations"
            raise SettingsError([Fault("from_mltable", found, allowed, "FileDataset.from_mltable(...)")])
        return dataset

    def mini_batches(self, mini_batch_size: int, input_index: int = 0) -> Iterator[MiniBatch]:
        size = self.size_of(mini_batch_size)
        header_file = self._header_file()
        if self.group_by:
            return self._cut_groups(self.groups(), input_index, header_file)
        return self._cut_files(self.files(), size, input_index, header_file)

    def cut(self, files: Iterable[str], mini_batch_size: int, input_index: int = 0) -> Iterator[MiniBatch]:
        return self._cut_files(files, mini_batch_size, input_index, self._earlier_header_file)

    def cut_groups(self, groups: Iterable[Group], input_index: int = 0) -> Iterator[MiniBatch]:
        return self._cut_groups(groups, input_index, self._earlier_header_file)

    @property
    def _earlier_header_file(self) -> HeaderFile | None:
        return self.earlier.header_file if self.earlier is not None else None

    def _header_file(self) -> HeaderFile | None:
        """The one file with a header, if there is one: as it was when the step run began, else that of today."""
        if self.header != "first":
            return None
        return self._earlier_header_file or find_header_file(self.files(), self.spec)

    def _cut_groups(
        self, groups: Iterable[Group], input_index: int, header_file: HeaderFile | None
    ) -> Iterator[MiniBatch]:
        return cut_table_groups(groups, input_index, self.spec._replace(header_file=header_file))

    def _cut_files(
        self, files: Iterable[str], size: int, input_index: int, header_file: HeaderFile | None
    ) -> Iterator[MiniBatch]:
        files = with_keys(files, self.keys_in_paths())
        if self.spec.kind == "parquet":
            return cut_parquet(files, size, input_index, self.spec)
        return cut_text(files, size, input_index, self.spec._replace(header_file=header_file), self.header)

    @property
    def finds_hive_folders(self) -> bool:  # type: ignore[override]
        return self.spec.kind == "parquet"

    def reader(self) -> ReadSpec:
        """What a worker process needs to read any mini-batch; reads the head of the first file with rows.

        Raises
        ------
        InputError
            The column names of all files are to be taken from the first one, and it cannot be read; a
            key of the paths has the name of a column.
        """
        spec = self.spec._replace(path_format=self.keys_in_paths(), keys=self.group_by)
        if self.spec.kind == "parquet":
            spec = spec._replace(first_file=first_file(self.files(), spec))
        else:
            names = names_for_all(self.files(), spec, self.header)
            spec = spec._replace(names=names, header_file=self._header_file())
            spec = spec._replace(column_types=column_types(self.files(), spec, self.header, names))
        if spec.path_format is not None and (faults := column_faults(spec, spec.path_format)):
            raise InputError(faults)
        return spec

    def partition_by(
        self,
        partition_keys: Sequence[str],
        target: str | os.PathLike[str],
        name: str | None = None,
        *,
        storage_options: Mapping[str, Any] | None = None,
    ) -> TabularDataset:
        """Write the table as Parquet, in a folder for each combination of some columns (``Store=2/Brand=a%2Fb/``).

        Built on a Dask DataFrame: the current Dask client does the work if there is one (its workers must share
        a local target's file system), else threads of this process. Partitions of 64 MB are in memory, never the
        table. A local target has its name only when all is written; one in a store is whole when it has
        ``_partition_keys.json``.

        Parameters
        ----------
        partition_keys
            Names of columns, at least one and not all: whole numbers, floats, truth values, texts, dates and dates
            with times (to the microsecond). Missing values are a value of their own.
        target
            A local folder, or the URL of one in a store, that does not exist or is empty.
        name
            As ``as_named_input`` gives it to the new dataset.
        storage_options
            Options of the target's store, for writing and for reading it back; never shown or written.

        Returns
        -------
        TabularDataset
            Over the target, with these keys in its paths and as its last columns; their dtypes are kept in
            ``_partition_keys.json`` there. Ready for ``ParallelRunConfig.partition_keys``.

        Raises
        ------
        SettingsError
            Keys that are no columns, a target that is not empty, a table without rows.
        ReadError
            A partition cannot be read, or has values of which no folder's name can be made (other types, more than
            some 250 bytes). Nothing of the target is left.
        OSError
            A store failed, also when asked again.
        """
        from prs_dask.datasets.partition_by import write_partitioned

        folder, options = write_partitioned(self, partition_keys, target, storage_options)
        written = TabularDataset.from_parquet_files(folder, storage_options=options)
        return written if name is None else written.as_named_input(name)

    def to_dask(self, mini_batch_size: int | str | None = None) -> dd.DataFrame:
        """A Dask DataFrame with one partition per mini-batch: the frame that ``run()`` would get.

        Partitions are read when they are computed; the first is read here, for its columns. Their types are what
        each mini-batch has: Dask's own conversion of text is off.
        """
        import dask.dataframe as dd
        from dask import config

        from prs_dask.datasets.reading import read

        spec = self.reader()
        batches = self.plan(mini_batch_size)
        if not batches:
            import pandas as pd

            nothing: dd.DataFrame = dd.from_pandas(pd.DataFrame(), npartitions=1)
            return nothing
        columns = read(batches[0], spec)[:0]
        with config.set({"dataframe.convert-string": False}):
            frame: dd.DataFrame = dd.from_map(read, batches, spec=spec, meta=columns, enforce_metadata=False)
        return frame

    def to_pandas(self) -> pd.DataFrame:
        """All rows in one DataFrame, in input order."""
        return self._first_rows(None)

    def take(self, n: int) -> pd.DataFrame:
        """The first ``n`` rows, in input order; reads no more mini-batches than that needs."""
        if not isinstance(n, int) or n < 0:
            raise SettingsError([Fault("n", repr(n), "a whole number of rows, at least 0", "take(5)")])
        return self._first_rows(n)

    def _first_rows(self, n: int | None) -> pd.DataFrame:
        import pandas as pd

        from prs_dask.datasets.reading import read

        spec, frames, have = self.reader(), [], 0
        for batch in self.mini_batches(self.default_mini_batch_size):
            frame = read(batch, spec)
            assert isinstance(frame, pd.DataFrame)  # noqa: S101 - tells the type checker
            frames.append(frame)
            have += len(frame)
            if n is not None and have >= n:
                break
        whole = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
        return whole.head(len(whole) if n is None else n)
