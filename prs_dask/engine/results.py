"""What comes back from the scheduler plugin, and where it goes: output, journal and logs."""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from prs_dask.attempts.records import RECORD_SIZE, AttemptError, AttemptRecord, Category, unpack
from prs_dask.engine.submission import Submission
from prs_dask.logs.process_events import ProcessEvent
from prs_dask.logs.text import process_name, shortened
from prs_dask.mini_batches import Part
from prs_dask.output.committer import Committable, Committer
from prs_dask.output.journal import Failure, JournalWriter
from prs_dask.output.piece_store import PieceStore
from prs_dask.output.stored_files import StoredFiles
from prs_dask.worker_process.output_files import AGAIN, FIRST, unpack_file_piece

__all__ = ["Recorder", "Results"]

MOST_OF_A_MESSAGE = 2000
"""Characters of it that the journal keeps: the logs have all of it."""


class Recorder(Protocol):
    """What `Results` tells the logs; writing a log never fails the step run."""

    def attempts(
        self,
        node: int,
        process: int,
        records: bytes,
        errors: Mapping[int, AttemptError],
        parts: Mapping[int, Part],
        ip: str = "",
        pid: int = 0,
    ) -> None:
        """Attempts that ended in one process; ``records`` are packed, and ``parts`` tells which are of parts."""

    def failures(self, failures: Sequence[Failure]) -> None:
        """Mini-batches, or parts of them, that failed for good."""

    def output(self, piece: Mapping[str, Any]) -> None:
        """A piece of a file that a process wrote: stdout, stderr, logs; see `prs_dask.engine.changing_file`."""

    def usage(self, node: int, data: bytes) -> None:
        """Samples of a node's resource monitor."""

    def process_error(self, node: int, process: int, when: float, doing: str, error: AttemptError) -> None:
        """What went wrong in a process outside of mini-batches: an import, ``init()``, ``shutdown()``."""

    def process_event(self, event: ProcessEvent) -> None:
        """A worker process was started, is ready, could not start, or has ended."""

    def note(self, when: float, text: str) -> None:
        """Something the scheduler plugin wants remembered."""

    def fault(self, when: float, where: str, text: str) -> None:
        """A fault of the engine itself."""


class Results:
    """Writes each round's entries: rows and journal as one commit, then the logs.

    Parameters
    ----------
    rows
        Those that an earlier part of the same step run has committed.
    redact
        Takes secrets out of what failures say, before it is journalled.
    stored
        Takes files from nodes without the output folder; None: there are none.

    Attributes
    ----------
    rows
        Rows committed so far.
    """

    def __init__(
        self,
        committer: Committer,
        journal: JournalWriter,
        pieces: PieceStore | None,
        recorder: Recorder,
        rows: int = 0,
        redact: Callable[[str], str] = str,
        stored: StoredFiles | None = None,
    ) -> None:
        self.rows = rows
        self._stored = stored
        self._redact = redact
        self._committer = committer
        self._journal = journal
        self._pieces = pieces
        self._recorder = recorder
        self._header = b""
        self._process_numbers: dict[int, int] = {}
        self._listed = (0, False)
        self._fault_told = False

    def write(
        self, entries: Sequence[Mapping[str, Any]], process_numbers: Mapping[int, int], submission: Submission
    ) -> None:
        """Commit the results among ``entries``, then record the rest.

        Raises
        ------
        CommitFailed
            The disk failed or is full; what was committed before stands.
        """
        if (listed := (submission.listed, submission.complete)) != self._listed:
            self._listed = listed
            with self._may_fail(self._journal.path):
                self._journal.inputs(submission.listed, submission.complete)
        batch: list[Committable] = []
        rows = 0
        for entry in entries:
            kind = entry["kind"]
            if kind == "attempts":
                committable, count = _committable(entry, self._redact)
                batch.append(committable)
                rows += count
            elif kind == "piece" and self._pieces is not None:
                with self._may_fail(self._pieces.folder):
                    self._pieces.add((entry["mini_batch"], str(entry["token"])), entry["data"])
            elif kind == "file" and self._stored is not None:
                self._add_file(self._stored, entry)
            elif kind == "header":
                self._header = entry["data"]
        numbers = {
            node: number for node, number in process_numbers.items() if self._process_numbers.get(node, 0) != number
        }
        if batch or numbers:
            submission.sync()
            with self._files_of(batch, entries):
                self._committer.commit(batch, header_line=self._header, process_numbers=numbers)
            self._process_numbers.update(numbers)
            self.rows += rows
        self._store_last(entries)
        for entry in entries:
            with self._only_logs():
                self._record(entry)
            if entry["kind"] == "attempts":
                for number, _ in entry["errors"]:  # what such an attempt had sent before it failed
                    for store in (self._pieces, self._stored):
                        if store is not None:
                            store.drop((number, str(entry["token"])))
            elif entry["kind"] == "files_over" and self._stored is not None:
                self._stored.drop_all(str(entry["token"]))
        for committable in batch:
            if committable.failures:
                with self._only_logs():
                    self._recorder.failures(committable.failures)
        for committable in batch:  # now that all parts of a mini-batch have been recorded
            submission.forget(committable.whole)
            submission.forget(failure.id for failure in committable.failures if failure.part is None)
            parts = {part.mini_batch for part in committable.parts.values()}
            submission.forget(number for number in parts if number in self._committer)

    def _add_file(self, stored: StoredFiles, entry: Mapping[str, Any]) -> None:
        """A piece of a file that a script has stored."""
        if not entry["data"]:
            return  # a process looks for what it has to store, or has stored all: see `_store_last`
        flags, offset, name, data = unpack_file_piece(entry["data"])
        whose = f"{process_name(entry['process'])} of node {entry['node']}"
        with self._may_fail(stored.folder):
            key = (entry["mini_batch"], str(entry["token"]))
            stored.add(key, whose, name, offset, data, first=bool(flags & FIRST), again=bool(flags & AGAIN))

    def _store_last(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """What processes have stored at their end, where all of it is here; it may be added to files of the commit."""
        if self._stored is None:
            return
        for entry in entries:
            if entry["kind"] == "file" and entry.get("ended"):
                with self._may_fail(self._stored.folder):
                    self._stored.store((entry["mini_batch"], str(entry["token"])))

    @contextlib.contextmanager
    def _files_of(self, batch: Sequence[Committable], entries: Sequence[Mapping[str, Any]]) -> Iterator[None]:
        """Around the commit: the files of what is committed take their places if it is."""
        stored = self._stored
        if stored is None or not stored:
            yield
            return
        tokens = [str(entry["token"]) for entry in entries if entry["kind"] == "attempts"]
        every = [(number, token) for item, token in zip(batch, tokens, strict=True) for number in item.ids]
        before = self._journal.length
        try:
            with self._may_fail(stored.folder):
                stored.prepare([key for key in every if key in stored], before)
            yield
        except BaseException:
            if self._journal.length <= before:
                stored.take_back()
            raise
        with self._may_fail(stored.folder):
            stored.publish()

    @contextlib.contextmanager
    def _may_fail(self, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._committer.disk_failed(error, path) from error

    @contextlib.contextmanager
    def _only_logs(self) -> Iterator[None]:
        """Around what only writes logs: whatever it raises is told there, once, and nothing fails for it."""
        try:
            yield
        except Exception:
            told, self._fault_told = self._fault_told, True
            if not told:
                with contextlib.suppress(Exception):
                    self._recorder.fault(time.time(), "logs", traceback.format_exc())

    def _record(self, entry: Mapping[str, Any]) -> None:
        recorder, kind = self._recorder, entry["kind"]
        if kind == "attempts":
            errors = {number: AttemptError(*fields) for number, fields in entry["errors"]}
            place = (entry.get("ip", ""), entry.get("pid", 0))
            recorder.attempts(entry["node"], entry["process"], entry["records"], errors, _parts(entry), *place)
        elif kind == "log" and entry["stream"] == "process_error":
            error = AttemptError(*entry["error"])
            recorder.process_error(entry["node"], entry["process"], entry["time"], entry["doing"], error)
        elif kind == "log" and entry["stream"] == "usage":
            recorder.usage(entry["node"], entry["data"])
        elif kind == "log":
            recorder.output(entry)
        elif kind == "process":
            told = {name: entry[name] for name in ProcessEvent._fields if name in entry}
            recorder.process_event(ProcessEvent(**told))
        elif kind == "note":
            recorder.note(entry["time"], entry["text"])
        elif kind == "fault":
            recorder.fault(entry["time"], entry["where"], entry["text"])


def _parts(entry: Mapping[str, Any]) -> dict[int, Part]:
    return {number: Part(*part) for number, *part in entry.get("parts", ())}


def _committable(entry: Mapping[str, Any], redact: Callable[[str], str] = str) -> tuple[Committable, int]:
    """One report as the committer takes it, and how many rows it holds."""
    pieced: dict[int, int] = dict(entry["pieced"])
    errors: dict[int, Sequence[str]] = dict(entry["errors"])
    parts = _parts(entry)
    good: list[AttemptRecord] = []
    failures: list[Failure] = []
    for record in unpack(entry["records"]):
        if not record.category:
            good.append(record)
        elif record.final:
            error = errors.get(record.mini_batch, ("", ""))
            failures.append(_failure(record, error, parts.get(record.mini_batch), redact))
    if pieced:
        lengths = [record.length - pieced.get(record.mini_batch, 0) for record in good]
    else:
        lengths = [record.length for record in good]
    rows = sum([record.results for record in good])
    items = sum([record.items for record in good])
    counts = {
        "items": items,
        "rows": rows,
        "failed_items": items - sum([record.succeeded_items for record in good]),
        "attempts": len(entry["records"]) // RECORD_SIZE,
    }
    committable = Committable(
        [record.mini_batch for record in good],
        lengths,
        entry["rows"],
        {number: str(entry["token"]) for number in pieced},
        failures,
        counts,
        parts,
    )
    return committable, rows


def _failure(record: AttemptRecord, error: Sequence[str], part: Part | None, redact: Callable[[str], str]) -> Failure:
    kind, message = error[0], error[1]
    return Failure(
        id=record.mini_batch if part is None else part.mini_batch,
        items=record.items,
        attempts=record.attempt,
        category=Category(record.category).label,
        message=shortened(redact(f"{kind}: {message}" if message else kind), MOST_OF_A_MESSAGE),
        part=part,
    )
