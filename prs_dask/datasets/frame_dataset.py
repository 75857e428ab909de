"""TabularDatasets of rows in memory: a pandas DataFrame, and the partitions of a Dask DataFrame."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from prs_dask.datasets.fileless_dataset import FilelessDataset, by_type
from prs_dask.datasets.frames import check_columns, pieces, rows_of_pieces, to_bytes
from prs_dask.datasets.read_spec import ReadSpec
from prs_dask.errors import Fault, InputError, SettingsError
from prs_dask.mini_batches import FrameMiniBatch, MiniBatch

if TYPE_CHECKING:
    import dask.dataframe as dd
    import pandas as pd

__all__ = ["DaskDataset", "PandasDataset", "dask_dataset", "pandas_dataset"]


@dataclass(frozen=True, kw_only=True)
class PandasDataset(FilelessDataset):
    """The rows of a pandas DataFrame; made by ``TabularDataset.from_pandas``."""

    frame: pd.DataFrame = field(repr=False, compare=False)

    def check(self) -> None:
        """See that there are rows, and that Arrow can carry every column.

        Raises
        ------
        InputError
            Names each column that cannot be carried.
        """
        check_columns(self.frame)
        if self.frame.empty:
            found = "no rows" if self.frame.shape[1] else "no columns"
            raise InputError([Fault("from_pandas", f"a DataFrame with {found}", "at least one row and one column")])

    def _cut(self, size: int, input_index: int) -> Iterator[MiniBatch]:
        return _mini_batches(self.frame, size, input_index, 0)


@dataclass(frozen=True, kw_only=True)
class DaskDataset(FilelessDataset):
    """The partitions of a Dask DataFrame; made by ``TabularDataset.from_dask``."""

    frame: dd.DataFrame = field(repr=False, compare=False)

    def check(self) -> None:
        """See that Arrow can carry every column, as far as their dtypes tell; computes nothing."""
        check_columns(self.frame._meta)

    def _cut(self, size: int, input_index: int) -> Iterator[MiniBatch]:
        row = 0
        for frame in _computed(self.frame.to_delayed()):
            yield from _mini_batches(frame, size, input_index, row)
            row += len(frame)

    def to_dask(self, mini_batch_size: int | str | None = None) -> dd.DataFrame:
        """A Dask DataFrame with one partition per mini-batch.

        The partitions are computed once here, where they lie, to know where to cut.
        """
        import dask.dataframe as dd
        from dask import config
        from dask.base import compute
        from dask.delayed import delayed

        size = self.size_of(mini_batch_size)
        partitions = self.frame.to_delayed()
        places = compute(*[delayed(rows_of_pieces)(partition, size) for partition in partitions])
        cut = [
            partition if places_of_one == [(0, places_of_one[-1][1])] else delayed(_rows)(partition, first, stop)
            for partition, places_of_one in zip(partitions, places, strict=True)
            for first, stop in places_of_one
        ]
        with config.set({"dataframe.convert-string": False}):
            frame: dd.DataFrame = dd.from_delayed(cut, meta=self.frame._meta, verify_meta=False)
        return frame


def _mini_batches(frame: pd.DataFrame, size: int, input_index: int, row: int) -> Iterator[MiniBatch]:
    for piece in pieces(frame, size):
        yield FrameMiniBatch(input_index, to_bytes(piece), row + piece.first, piece.table.num_rows)


def _rows(frame: pd.DataFrame, first: int, stop: int) -> pd.DataFrame:
    return frame.iloc[first:stop]


def _computed(partitions: list[Any]) -> Iterator[pd.DataFrame]:
    """The partitions in order: from the current client's cluster if there is one, else from threads of this process.

    A cluster computes some ahead, one for each of its threads and two at least; they wait there.
    """
    import distributed

    try:
        client = distributed.default_client()
    except ValueError:
        for partition in partitions:
            yield partition.compute(scheduler="threads")
        return
    left = iter(partitions)
    ahead: deque[Any] = deque()
    try:
        while True:
            wanted = max(2, sum(client.nthreads().values()))
            ahead.extend(client.compute(partition) for partition in islice(left, wanted - len(ahead)))
            if not ahead:
                return
            yield ahead[0].result()
            ahead.popleft().release()
    finally:
        for future in ahead:
            future.release()


def pandas_dataset(frame: Any) -> PandasDataset:
    """See ``TabularDataset.from_pandas``."""
    import pandas as pd

    if not isinstance(frame, pd.DataFrame):
        example = "TabularDataset.from_dask(ddf)" if hasattr(frame, "to_delayed") else "pandas.DataFrame(...)"
        raise SettingsError([Fault("df", by_type(frame), "a pandas DataFrame", example)])
    return PandasDataset(paths=(), spec=ReadSpec("frame"), frame=frame.copy(deep=False))


def dask_dataset(frame: Any) -> DaskDataset:
    """See ``TabularDataset.from_dask``."""
    import dask.dataframe as dd

    if not isinstance(frame, dd.DataFrame):
        raise SettingsError([Fault("ddf", by_type(frame), "a Dask DataFrame", "dask.dataframe.from_pandas(df)")])
    return DaskDataset(paths=(), spec=ReadSpec("frame"), frame=frame)
