"""What datasets have in common whose rows lie in no files: SQL queries, and tables in memory."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from prs_dask.datasets.path_keys import Group
from prs_dask.datasets.read_spec import ReadSpec
from prs_dask.datasets.tabular_dataset import TabularDataset
from prs_dask.mini_batches import MiniBatch

__all__ = ["FilelessDataset", "by_type"]


@dataclass(frozen=True, kw_only=True)
class FilelessDataset(TabularDataset):
    """Rows of which nothing is to be listed, and whose reader is known from the start."""

    def reader(self) -> ReadSpec:
        return self.spec

    def files(self) -> Iterator[str]:
        return iter(())

    def mini_batches(self, mini_batch_size: int, input_index: int = 0) -> Iterator[MiniBatch]:
        return self._cut(self.size_of(mini_batch_size), input_index)

    def cut(self, files: Iterable[str], mini_batch_size: int, input_index: int = 0) -> Iterator[MiniBatch]:
        return iter(())

    def cut_groups(self, groups: Iterable[Group], input_index: int = 0) -> Iterator[MiniBatch]:
        return iter(())

    @abstractmethod
    def _cut(self, size: int, input_index: int) -> Iterator[MiniBatch]:
        """The mini-batches, lazily; the size is a good one."""


def by_type(value: object) -> str:
    """What was given instead, by its type only: it may hold rows or a password."""
    package = type(value).__module__.partition(".")[0]
    return f"a {type(value).__name__}" if package == "builtins" else f"a {package} {type(value).__name__}"
