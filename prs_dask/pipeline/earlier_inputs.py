"""The inputs of a step run that is resumed: what was listed of them, what has changed, and what goes on behind.

::

    manifest ──▶ compare with the files of today ──▶ refuse, naming them
        └──────▶ the mini-batches that were listed, those not listed yet, those of files that were added

Old mini-batches come from the manifest and keep their ids: no file is cut again, nothing shifts. The manifest is read
through twice, a member at a time: a million mini-batches are never in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from prs_dask.datasets import Dataset
from prs_dask.datasets.cutting import listed_again
from prs_dask.datasets.frame_dataset import DaskDataset
from prs_dask.datasets.input_changes import InputComparison, continued
from prs_dask.datasets.kept_reader import reader_as_kept
from prs_dask.datasets.read_spec import ReadSpec
from prs_dask.errors import Fault, OutputError, ResumeError
from prs_dask.mini_batches import FileMiniBatch, MiniBatch, QueryMiniBatch, RowGroupMiniBatch, TextMiniBatch
from prs_dask.mini_batches.json_form import KeptMiniBatch, RowsHash, from_lines, kept
from prs_dask.output.manifest import read_manifest, read_members

__all__ = ["EarlierInputs"]


_IN_NO_FILES = (b'["rows"', b'["query"')


class EarlierInputs:
    """What a manifest holds, and the same inputs as they are now.

    Parameters
    ----------
    path
        Of the manifest.
    inputs
        The step's, grouped by its partition keys.
    mini_batch_size
        Files or bytes, as before.
    ended
        Is this mini-batch finished, or not to be tried again?

    Attributes
    ----------
    state
        Of the manifest.
    readers
        How the inputs were read when the step run began.
    notes
        What has changed and does not matter, after `compare`.

    Raises
    ------
    OutputError
        The manifest is missing, damaged, or that of another step.
    """

    def __init__(
        self, path: Path, inputs: Sequence[Dataset], mini_batch_size: int, ended: Callable[[int], bool]
    ) -> None:
        self.state = read_manifest(path)
        self.notes: list[str] = []
        self._path = path
        self._size = mini_batch_size
        self._ended = ended
        self.readers = self._readers(inputs)
        self._inputs = [one.read_as(reader) for one, reader in zip(inputs, self.readers, strict=True)]
        self._comparisons = [
            InputComparison(one, _name(number, one)) if one.paths else None for number, one in enumerate(self._inputs)
        ]
        self._last: KeptMiniBatch | None = None
        self._last_input = -1
        self._open = [0 for _ in inputs]
        self._takes_changes = False

    def _readers(self, inputs: Sequence[Dataset]) -> tuple[ReadSpec, ...]:
        try:
            return tuple(reader_as_kept(*one) for one in zip(inputs, self.state.header["inputs"], strict=True))
        except (KeyError, TypeError, ValueError) as error:
            raise self._damage(f"its first line: {error}") from error

    def compare(self, accept_changes: bool) -> None:
        """See that the inputs are what they were; sets `notes`. Reads and writes nothing else.

        Raises
        ------
        ResumeError
            They are not: names the files.
        """
        self._takes_changes = accept_changes
        again = self._again(at_once=True)
        for member in read_members(self._path):
            mini_batches = self._read(member.first, member.lines)
            done = [self._ended(number) for number in range(member.first, member.first + len(mini_batches))]
            place = 0
            for index, some in groupby(mini_batches, key=attrgetter("input")):
                together = list(some)
                ended = done[place : place + len(together)]
                self._take(member.first + place, together, ended, member.at, again.get(index))
                place += len(together)
        faults: list[Fault] = []
        for number, comparison in enumerate(self._comparisons):
            listed = self._is_listed(number)
            if comparison is not None and (listed or number == self._last_input):
                whole = self.state.complete or self._last is None or self._last.input != number
                comparison.end(listed_to_the_end=listed, last_is_whole=whole)
                faults += comparison.changes.faults(accept_changes)
                self.notes += comparison.changes.notes()
            elif number in again and listed:
                again[number].end()
        if faults:
            raise ResumeError(faults)

    def _take(
        self, first: int, some: list[KeptMiniBatch], done: list[bool], at: float, again: _RowsAgain | None
    ) -> None:
        """Mini-batches of one input, as they follow each other, from an id on."""
        index = some[0].input
        self._last, self._last_input = some[-1], max(self._last_input, index)
        self._open[index] += done.count(False)
        if again is not None:
            for number, mini_batch in enumerate(some, first):
                again.take(number, mini_batch)
        if (comparison := self._comparisons[index]) is not None:
            comparison.take(some, done, at)

    def mini_batches(self) -> Iterator[MiniBatch | None]:
        """All mini-batches in the order of their ids, after `compare`; None in place of one that has ended.

        Raises
        ------
        ResumeError
            While iterating: rows that were computed again are not what they were.
        """
        again = self._again()
        for member in read_members(self._path):
            for number, line in enumerate(member.lines, member.first):
                ended = self._ended(number)
                if ended and not line.startswith(_IN_NO_FILES):
                    yield None
                    continue
                (mini_batch,) = self._read(number, [line])
                if self._takes_changes and isinstance(mini_batch, FileMiniBatch):
                    yield listed_again(mini_batch)
                elif not isinstance(mini_batch, RowsHash | QueryMiniBatch):
                    yield mini_batch
                elif self._is_listed(mini_batch.input) and not self._open[mini_batch.input]:
                    yield None  # all of it has ended: nothing is computed again
                else:
                    rows = again[mini_batch.input].take(number, mini_batch)
                    yield None if ended else rows
        for number, rows_again in again.items():
            if self._is_listed(number) and self._open[number]:
                rows_again.end()
        yield from self._rest_of_the_last_file()
        if not self.state.was_complete:
            yield from self._not_listed(again)
        for number, comparison in enumerate(self._comparisons):
            if comparison is not None:
                yield from comparison.added(self._size, number)

    def _again(self, at_once: bool = False) -> dict[int, _RowsAgain]:
        """Inputs whose rows lie in no files; ``at_once``: without Dask DataFrames, which are computed once only."""
        return {
            number: _RowsAgain(dataset.mini_batches(self._size, number), self._named(number))
            for number, dataset in enumerate(self._inputs)
            if not dataset.paths and not (at_once and isinstance(dataset, DaskDataset))
        }

    def _is_listed(self, number: int) -> bool:
        """Had all of an input been listed?"""
        return self.state.was_complete or number < self._last_input

    def _rest_of_the_last_file(self) -> Iterator[MiniBatch]:
        last = self._last
        if not self.state.complete and isinstance(last, TextMiniBatch | RowGroupMiniBatch):
            yield from continued(self._inputs[last.input].cut([last.path], self._size, last.input), last)

    def _not_listed(self, again: dict[int, _RowsAgain]) -> Iterator[MiniBatch]:
        for number, dataset in enumerate(self._inputs):
            comparison = self._comparisons[number]
            if number > self._last_input:
                yield from dataset.mini_batches(self._size, number)
            elif number == self._last_input and comparison is not None:
                yield from comparison.rest(self._size, number)
            elif number == self._last_input:
                yield from again[number].rest()

    def _read(self, first: int, lines: Sequence[bytes]) -> list[KeptMiniBatch]:
        try:
            mini_batches = from_lines(lines)
            if any(not 0 <= one.input < len(self._inputs) for one in mini_batches):
                raise ValueError(f"an input beyond the {len(self._inputs)} there are")
        except ValueError as error:
            raise self._damage(f"mini-batches from {first} on: {error}") from error
        return mini_batches

    def _named(self, number: int) -> str:
        return _name(number, self._inputs[number])

    def _damage(self, found: str) -> OutputError:
        return OutputError([Fault(str(self._path), found, "what this step run had written", "a new step run")])


def _name(number: int, dataset: Dataset) -> str:
    return f"inputs[{number}]" + (f" ({dataset.name})" if dataset.name is not None else "")


class _RowsAgain:
    """Mini-batches of rows that lie in no files, made again, and compared with what was kept of them."""

    def __init__(self, now: Iterator[MiniBatch], name: str) -> None:
        self._now = now
        self._name = name

    def take(self, number: int, before: KeptMiniBatch) -> MiniBatch:
        """The next one, which has to be what it was."""
        now = next(self._now, None)
        if now is None:
            raise self._differs(f"no rows for mini-batch {number} ({before.detail}) any more")
        if kept(now) != before:
            raise self._differs(f"mini-batch {number} ({now.detail}) is not what it was ({before.detail})")
        return now

    def end(self) -> None:
        """All that was listed has been taken, and that was all there was."""
        if (more := next(self._now, None)) is not None:
            raise self._differs(f"more rows than before: {more.detail}")

    def rest(self) -> Iterator[MiniBatch]:
        """What was not listed."""
        return self._now

    def _differs(self, found: str) -> ResumeError:
        allowed = "the same rows as when the step run began, read by the same versions of pandas and pyarrow"
        return ResumeError([Fault(self._name, found, allowed, "an equal object, or a new step run")])
