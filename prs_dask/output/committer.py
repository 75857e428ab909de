"""Group commit: what makes every row stand in the output exactly once.

One group of results becomes durable in this order; a crash anywhere leaves the file at its last
journalled length once what lies beyond is cut off::

    append all rows -> fsync -> order records -> fsync -> journal line -> fsync -> counts to the caller

An id is committed once, an item of a bisected mini-batch too: a second result is refused before anything is
written. After a disk error everything is cut back to the last commit and the committer takes no more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

from prs_dask.errors import EngineError, Fault, OutputError
from prs_dask.mini_batches import Part
from prs_dask.output.append_file import AppendFile
from prs_dask.output.id_ranges import IdSet, encode_ranges, to_ranges
from prs_dask.output.journal import Failure, JournalState, JournalWriter
from prs_dask.output.order_file import OrderFile
from prs_dask.output.part_ranges import ItemRanges
from prs_dask.output.piece_store import PieceStore

__all__ = ["CommitCounts", "CommitFailed", "Committable", "Committer", "Failure"]


class CommitFailed(OutputError):
    """Results could not be written. The output was cut back to the last commit: it can be resumed."""


@dataclass(frozen=True, slots=True)
class Committable:
    """Results of some mini-batches as they arrive: side by side in one blob.

    Parameters
    ----------
    ids
        Mini-batches that succeeded, and the numbers of parts that did.
    lengths
        For each, its bytes in ``rows``, in the same order.
    rows
        Their rows back to back, without header lines; empty with summary_only.
    pieces
        Tokens of those whose rows came in pieces. The pieces come first; what the blob holds of
        such a mini-batch is its end.
    failures
        Mini-batches that failed for good.
    counts
        Sums to be kept in the journal (``items``, ``rows``, …); they may tell of attempts that decided nothing, too.
    parts
        What those numbers mean. Failures have theirs in themselves.
    """

    ids: Sequence[int] = ()
    lengths: Sequence[int] = ()
    rows: bytes = b""
    pieces: Mapping[int, int | str] = field(default_factory=dict)
    failures: Sequence[Failure] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    parts: Mapping[int, Part] = field(default_factory=dict)

    @property
    def whole(self) -> Sequence[int]:
        """The ids among ``ids`` that are no parts."""
        return [id for id in self.ids if id not in self.parts] if self.parts else self.ids


@dataclass(frozen=True, slots=True)
class CommitCounts:
    """What one commit did: mini-batches that succeeded and failed, bytes of rows, and the output's length now.

    A bisected one is counted with the last of its parts.
    """

    succeeded: int
    failed: int
    row_bytes: int
    output_length: int


class Committer:
    """The only writer of output, order file and journal.

    Parameters
    ----------
    journal
        Open for writing.
    append_file
        None with summary_only: there are no rows.
    order
        The order file with ``append_row_order="input"``.
    piece_store
        Where pieces of rows wait.
    state
        What the journal says where a step run is resumed.
    """

    def __init__(
        self,
        journal: JournalWriter,
        append_file: AppendFile | None,
        order: OrderFile | None = None,
        piece_store: PieceStore | None = None,
        state: JournalState | None = None,
    ) -> None:
        self._journal = journal
        self._file = append_file
        self._order = order
        self._piece_store = piece_store
        state = state if state is not None else JournalState()
        self.header_line = state.header_line
        self._committed = IdSet(state.finished.ranges() + state.failed.ranges())
        self._bisected = {
            number: items.copy() for number, items in state.bisected.items() if number not in self._committed
        }
        self._length = append_file.length if append_file else 0
        self._order_count = order.count if order else 0
        self._broken: CommitFailed | None = None

    def __contains__(self, mini_batch: int) -> bool:
        return mini_batch in self._committed

    def __len__(self) -> int:
        return len(self._committed)

    @property
    def committed_length(self) -> int:
        """Bytes of the output that are committed, the header line included."""
        return self._length

    def commit(
        self,
        batch: Sequence[Committable],
        *,
        header_line: bytes = b"",
        process_numbers: Mapping[int, int] | None = None,
    ) -> CommitCounts:
        """Make a group of results durable, all of it or nothing.

        Parameters
        ----------
        batch
            The results of one round.
        header_line
            The columns' header, with or before the first rows that have one; written once.
        process_numbers
            Next free process numbers, for the nodes where they have changed.

        Raises
        ------
        EngineError
            An id was committed before or stands there twice, or lengths and rows disagree; nothing was written.
        CommitFailed
            The disk failed or is full.
        """
        if self._broken is not None:
            raise self._broken
        succeeded = self._new_ranges(id for item in batch for id in item.whole)
        failures = [failure for item in batch for failure in item.failures]
        failed = self._new_ranges(failure.id for failure in failures if failure.part is None)
        self._check(batch, succeeded, failed, header_line)
        parts = [item.parts[id] for item in batch if item.parts for id in item.ids if id in item.parts]
        bisected = self._new_items(parts, failures, succeeded + failed)
        counts = _sums(batch)
        if not (succeeded or failures or parts or counts or process_numbers or (header_line and not self.header_line)):
            return CommitCounts(0, 0, 0, self._length)
        new_header = header_line if not self.header_line else b""
        journal_length = self._journal.length
        try:
            self._write_rows(batch, new_header)
            self._journal.commit(
                output=self._file.length if self._file else 0,
                order=self._order.count if self._order else 0,
                finished=encode_ranges(succeeded),
                parts=parts,
                failed=failures,
                counts=counts,
                process_numbers=process_numbers,
                header_line=new_header,
            )
            self._journal.sync()
        except OSError as error:
            raise self._cut_back(error, journal_length) from error
        except BaseException as error:  # whatever lies beyond the last commit, a resume cuts it off
            self._broken = CommitFailed([Fault("output", f"{type(error).__name__} within a commit", "none", "resume")])
            raise
        return self._committed_now(batch, succeeded, failed, bisected, new_header)

    def _new_ranges(self, ids: Iterable[int]) -> list[tuple[int, int]]:
        try:
            ranges = to_ranges(ids)
        except ValueError as error:
            raise EngineError(f"one commit: {error}") from error
        for start, stop in ranges:
            if (known := self._committed.overlap(start, stop)) is not None:
                raise EngineError(f"mini-batch {known} was committed before")
        if self._bisected and ranges:
            new = IdSet(ranges)
            for number in self._bisected:
                if number in new:
                    raise EngineError(f"parts of mini-batch {number} were committed before")
        return ranges

    def _new_items(
        self, parts: Sequence[Part], failures: Sequence[Failure], whole: Sequence[tuple[int, int]]
    ) -> dict[int, ItemRanges]:
        """The bisected mini-batches of a commit, as they are afterwards."""
        new: dict[int, ItemRanges] = {}
        ended = [(part, False) for part in parts]
        ended += [(failure.part, True) for failure in failures if failure.part is not None]
        if not ended:
            return new
        wholes = IdSet(whole)
        for part, failed in ended:
            number = part.mini_batch
            if number in self._committed or number in wholes:
                raise EngineError(f"mini-batch {number}, of which {part} is a part, was committed as a whole")
            if number not in new:
                before = self._bisected.get(number)
                new[number] = ItemRanges(part.of) if before is None else before.copy()
            try:
                new[number].add(part, failed=failed)
            except ValueError as error:
                raise EngineError(str(error)) from error
        return new

    def _check(
        self,
        batch: Sequence[Committable],
        succeeded: list[tuple[int, int]],
        failed: list[tuple[int, int]],
        header_line: bytes,
    ) -> None:
        if succeeded and failed:
            new = IdSet(succeeded)
            for start, stop in failed:
                if (both := new.overlap(start, stop)) is not None:
                    raise EngineError(f"mini-batch {both} succeeded and failed in one commit")
        for item in batch:
            if self._file is None:
                if item.rows or item.pieces:
                    raise EngineError("rows were sent with summary_only")
            elif len(item.lengths) != len(item.ids) or sum(item.lengths) != len(item.rows):
                raise EngineError(
                    f"results of {len(item.ids)} mini-batches, {len(item.lengths)} lengths of {sum(item.lengths)} bytes"
                    f" in all, {len(item.rows)} bytes of rows"
                )
            if item.pieces.keys() - set(item.ids):
                raise EngineError(f"pieces of other mini-batches: {sorted(item.pieces.keys() - set(item.ids))[:10]}")
            for key in item.pieces.items():
                if self._piece_store is None or key not in self._piece_store:
                    raise EngineError(f"no pieces of mini-batch {key[0]} have arrived")
        if header_line and self.header_line and header_line != self.header_line:
            raise EngineError(f"a second header line {header_line!r}; the file begins with {self.header_line!r}")

    def _write_rows(self, batch: Sequence[Committable], new_header: bytes) -> None:
        if self._file is None:
            return
        if new_header:
            if self._file.length:
                raise EngineError(f"a header line {new_header!r} after rows without one")
            self._file.append(new_header)
        for item in batch:
            if item.pieces:
                self._write_pieces(item, self._file)
            elif item.rows:
                start = self._file.append(item.rows)
                if self._order is not None:
                    self._record_order(self._order, item, list(accumulate(item.lengths, initial=start)), item.lengths)
        if self._file.length != self._length:
            self._file.sync()
            if self._order is not None:
                self._order.sync()

    def _write_pieces(self, item: Committable, file: AppendFile) -> None:
        """Rows in pieces interrupt the blob: one mini-batch at a time, its rows together."""
        view, at = memoryview(item.rows), 0
        offsets, lengths = [], []
        for mini_batch, length in zip(item.ids, item.lengths, strict=True):
            start = file.length
            if self._piece_store and (token := item.pieces.get(mini_batch)) is not None:
                self._piece_store.append_to(file, (mini_batch, token))
            file.append(view[at : at + length])
            at += length
            offsets.append(start)
            lengths.append(file.length - start)
        if self._order is not None:
            self._record_order(self._order, item, offsets, lengths)

    def _record_order(
        self, order: OrderFile, item: Committable, offsets: Sequence[int], lengths: Sequence[int]
    ) -> None:
        if not item.parts:
            order.append(item.ids, offsets, lengths)
            return
        parts = [item.parts.get(number, Part(number, 0, 0, 0)) for number in item.ids]
        order.append([part.mini_batch for part in parts], offsets, lengths, [part.start for part in parts])

    def _committed_now(
        self,
        batch: Sequence[Committable],
        succeeded: list[tuple[int, int]],
        failed: list[tuple[int, int]],
        bisected: dict[int, ItemRanges],
        new_header: bytes,
    ) -> CommitCounts:
        for start, stop in succeeded + failed:
            self._committed.add(start, stop)
        complete = [(number, items) for number, items in bisected.items() if items.is_complete]
        self._bisected |= bisected
        for number, _ in complete:
            self._committed.add(number, number + 1)
            del self._bisected[number]
        self.header_line = self.header_line or new_header
        before, self._length = self._length, self._file.length if self._file else 0
        self._order_count = self._order.count if self._order else 0
        if self._piece_store is not None:
            for item in batch:
                for key in item.pieces.items():
                    self._piece_store.drop(key)
        return CommitCounts(
            sum(stop - start for start, stop in succeeded) + sum(not items.failed for _, items in complete),
            sum(stop - start for start, stop in failed) + sum(bool(items.failed) for _, items in complete),
            self._length - before - len(new_header),
            self._length,
        )

    def disk_failed(self, error: OSError, path: Path) -> CommitFailed:
        """Something outside of commits could not be written at this place: nothing is committed any more."""
        return self._cut_back(error, self._journal.length, path)

    def _cut_back(self, error: OSError, journal_length: int, path: Path | None = None) -> CommitFailed:
        """Rows and order records of a group that failed go, unless its journal line may be on disk."""
        path = path or (self._file.partial if self._file else self._journal.path)
        notes = ""
        if self._journal.length <= journal_length:
            try:
                if self._file is not None:
                    self._file.truncate(self._length)
                if self._order is not None:
                    self._order.truncate(self._order_count)
            except OSError as second:  # a resume does the same
                notes = f"; it could not be cut back to {self._length} bytes: {second.strerror}"
        fault = Fault(
            str(error.filename or path),
            f"{error.strerror or error} (errno {error.errno}){notes}",
            "a disk with room that can be written",
            "free some room, then resume: nothing that is committed is lost",
        )
        self._broken = CommitFailed([fault])
        return self._broken


def _sums(batch: Sequence[Committable]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for item in batch:
        for name, count in item.counts.items():
            sums[name] = sums.get(name, 0) + count
    return {name: count for name, count in sums.items() if count}
