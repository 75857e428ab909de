"""What a step would run: its first mini-batches, and what its inputs hold, as far as they were listed."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

from prs_dask.datasets import Dataset, TabularDataset
from prs_dask.mini_batches import (
    FileMiniBatch,
    FrameMiniBatch,
    MiniBatch,
    PartMiniBatch,
    RowGroupMiniBatch,
    TextMiniBatch,
)
from prs_dask.redaction import redact_text

__all__ = ["InputPlan", "StepPlan", "made_plan"]


@dataclass(slots=True)
class InputPlan:
    """What was listed of one input.

    Parameters
    ----------
    name
        As ``mini_batch_context.dataset`` tells it.
    format
        ``files``, ``delimited``, ``json_lines``, ``parquet``, ``query`` or ``frame``.
    source
        Its paths, or the database without the password.
    mini_batches, files
        How many.
    items
        None where it is not known before they are read.
    bytes
        Of all its files, or of its rows in memory; None where it is not known.
    """

    name: str
    format: str
    source: str
    mini_batches: int = 0
    files: int = 0
    items: int | None = 0
    bytes: int | None = 0
    _last: str = field(default="", repr=False)

    def add(self, mini_batch: MiniBatch) -> None:
        """Count a mini-batch of this input."""
        self.mini_batches += 1
        self.items = _sum(self.items, mini_batch.items)
        if isinstance(mini_batch, FrameMiniBatch):
            self.bytes = _sum(self.bytes, len(mini_batch.data))
            return
        files = list(_files_of(mini_batch))
        if not files:
            self.bytes = None
        for path, version in files:
            if path != self._last:  # the mini-batches of one file come one after the other
                self._last = path
                self.files += 1
                self.bytes = _sum(self.bytes, _size(path, version))


class StepPlan(Sequence[MiniBatch]):
    """The first mini-batches of a step, as a sequence, and counts of its inputs.

    Attributes
    ----------
    inputs
        A tuple of `InputPlan`.
    complete
        Was everything listed? Where not, all counts are "at least".
    mini_batch_size
        As set.
    partition_keys
        As set; empty where none are.
    """

    def __init__(
        self,
        mini_batches: Iterable[MiniBatch],
        inputs: Iterable[InputPlan],
        *,
        complete: bool,
        mini_batch_size: object,
        partition_keys: Sequence[str] = (),
    ) -> None:
        self._first = tuple(mini_batches)
        self.inputs = tuple(inputs)
        self.complete = complete
        self.mini_batch_size = mini_batch_size
        self.partition_keys = tuple(partition_keys)

    @property
    def listed(self) -> int:
        """Mini-batches that were listed; all of them where the plan is complete."""
        return sum(one.mini_batches for one in self.inputs)

    @overload
    def __getitem__(self, index: int) -> MiniBatch: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[MiniBatch, ...]: ...
    def __getitem__(self, index: int | slice) -> MiniBatch | tuple[MiniBatch, ...]:
        return self._first[index]

    def __len__(self) -> int:
        return len(self._first)

    def __repr__(self) -> str:
        known = f"{self.listed}" if self.complete else f"at least {self.listed}"
        return f"StepPlan({known} mini-batches of {len(self.inputs)} inputs)"

    def as_dict(self) -> dict[str, Any]:
        """Everything as values that JSON has."""
        return {
            "complete": self.complete,
            "mini_batches": self.listed,
            "mini_batch_size": self.mini_batch_size,
            "partition_keys": list(self.partition_keys),
            "inputs": [
                {
                    "name": one.name,
                    "format": one.format,
                    "source": one.source,
                    "mini_batches": one.mini_batches,
                    "files": one.files,
                    "items": one.items,
                    "bytes": one.bytes,
                }
                for one in self.inputs
            ],
            "first": [
                {
                    "id": number,
                    "input": self.inputs[one.input].name,
                    "items": one.items,
                    "keys": self.keys_of(one),
                    "detail": one.detail,
                }
                for number, one in enumerate(self._first)
            ],
        }

    def keys_of(self, mini_batch: MiniBatch) -> dict[str, Any]:
        """The values of the partition keys of a mini-batch."""
        values = getattr(mini_batch, "values", ())
        shown = [value if isinstance(value, (str, int, float)) or value is None else str(value) for value in values]
        return dict(zip(self.partition_keys, shown, strict=False)) if self.partition_keys else {}


def made_plan(
    inputs: Sequence[Dataset],
    mini_batches: Iterable[MiniBatch],
    n: int | None,
    seconds: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    **settings: Any,
) -> StepPlan:
    """List mini-batches: the first ``n`` (None: all), and more for at most ``seconds``, to count them."""
    plans = [_input_plan(number, dataset) for number, dataset in enumerate(inputs)]
    first: list[MiniBatch] = []
    end = None
    complete = True
    for mini_batch in mini_batches:
        if n is not None and len(first) >= n:
            end = clock() + seconds if end is None else end
            if clock() >= end:
                complete = False
                break
        else:
            first.append(mini_batch)
        plans[mini_batch.input].add(mini_batch)
    return StepPlan(first, plans, complete=complete, **settings)


def _input_plan(number: int, dataset: Dataset) -> InputPlan:
    kind = dataset.spec.kind if isinstance(dataset, TabularDataset) else "files"
    source = ", ".join(map(redact_text, dataset.paths))
    if isinstance(dataset, TabularDataset) and dataset.spec.query is not None:
        source = dataset.spec.query.shown_url
    return InputPlan(dataset.name or str(number), kind, source)


def _files_of(mini_batch: MiniBatch) -> Iterator[tuple[str, str]]:
    if isinstance(mini_batch, FileMiniBatch):
        versions = mini_batch.versions or ("",) * len(mini_batch.paths)
        yield from zip(mini_batch.paths, versions, strict=True)
    elif isinstance(mini_batch, TextMiniBatch | RowGroupMiniBatch):
        yield mini_batch.path, mini_batch.version
    elif isinstance(mini_batch, PartMiniBatch):
        for part in mini_batch.parts:
            yield part.path, part.version


def _size(path: str, version: str) -> int | None:
    """Bytes of a file: of one in a store from its version, which begins with it."""
    size = version.partition("-")[0]
    if size.isdecimal():
        return int(size)
    if "://" not in path:
        with contextlib.suppress(OSError, ValueError):
            return os.path.getsize(path)
    return None


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other
