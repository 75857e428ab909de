"""What datasets have in common whose rows lie in no files: SQL queries, and tables in memory."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

from prs_dask.datasets.dataset import check_size
from prs_dask.datasets.read_spec import ReadSpec
from prs_dask.datasets.tabular_dataset import TabularDataset
from prs_dask.mini_batches import MiniBatch

__all__ = ["FilelessDataset"]


@dataclass(frozen=True, kw_only=True)
class FilelessDataset(TabularDataset):
    """Rows of which nothing is to be listed, and whose reader is known from the start."""

    def reader(self) -> ReadSpec:
        return self.spec

    def files(self) -> Iterator[str]:
        return iter(())

    def mini_batches(self, mini_batch_size: int, input_index: int = 0) -> Iterator[MiniBatch]:
        check_size(mini_batch_size)
        return self._cut(mini_batch_size, input_index)

    @abstractmethod
    def _cut(self, size: int, input_index: int) -> Iterator[MiniBatch]:
        """The mini-batches, lazily; the size is a good one."""
