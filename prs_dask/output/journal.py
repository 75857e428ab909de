"""The journal: what of a step run is on disk for good. JSON Lines that are only appended to.

::

    {"crc":"5f3759df","kind":"header","format":1,"run":…,"created":…,"fingerprint":{…},"plan":{…}}
    {"crc":…,"kind":"inputs","listed":50000,"complete":false}    as listing goes on; which they are: `manifest`
    {"crc":…,"kind":"commit","output":81920,"order":512,"finished":"0-99,105","failed":[…],"counts":{…}}
    {"crc":…,"kind":"commit",…,"parts":[[107,0,4,10]],"failed":[{"id":107,…,"part":[4,5,10]}]}    of a bisected one
    {"crc":…,"kind":"end","state":"Failed","at":…}
    {"crc":…,"kind":"resumed","at":…,"retry_failed":true}                  then commits again

``counts`` are sums over what the line commits: ``items``, ``rows`` and ``failed_items`` (results that are missing)
of those that succeeded, and ``attempts`` of all.

A mini-batch is finished when its commit line is on disk, and only then. ``crc`` is the CRC-32 of
the rest of its line. Lines that one fsync brings to disk are a group: a host that crashes before it is through
may leave any of their pages and lose others. So a group that is damaged counts as never written from its first
damaged line on; damage before the last group means that the file was changed by something else, and is an
error. A line that does not begin its group says so: ``synced`` is where the group begins. The reader keeps
ranges, not ids, and sums, not failures: `iter_failures` goes over those.

Only JSON: nothing in it can run code where it is read.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from prs_dask.attempts.bisecting import PartlyDone
from prs_dask.attempts.judge import Counts
from prs_dask.errors import Fault, OutputError
from prs_dask.mini_batches import Part
from prs_dask.output.id_ranges import IdSet, decode_ranges
from prs_dask.output.part_ranges import ItemRanges
from prs_dask.output.write_at import open_cut

__all__ = ["FORMAT", "Failure", "InputsSegment", "JournalState", "JournalWriter", "iter_failures", "read_journal"]

FORMAT = 1
"""Version of the lines; a journal of a higher one is refused."""

_PREFIX = len('{"crc":"00000000",')


class Failure(NamedTuple):
    """A mini-batch, or a part of a bisected one, that failed for good.

    Parameters
    ----------
    id
        Its id.
    items
        How many items it held, all of which count as failed; 0 where that is not known.
    attempts
        How often it was tried.
    category
        ``Category.label`` of the last attempt.
    message
        What the last attempt said, shortened by whoever makes this.
    part
        Which items of the mini-batch failed, where it was bisected; None: all of them.
    """

    id: int
    items: int
    attempts: int
    category: str
    message: str
    part: Part | None = None


class InputsSegment(NamedTuple):
    """The inputs listed so far: how many mini-batches, and whether these are all."""

    listed: int
    complete: bool


@dataclass(slots=True)
class JournalState:
    """What a journal says, all lines taken together.

    Parameters
    ----------
    header
        The header line's fields; None where not even that line is whole.
    output_length, order_count
        Bytes of the output file, and records of the order file, at the last commit.
    header_line
        The columns' header that stands at the start of the output file; may be empty.
    finished
        Ids of succeeded mini-batches.
    failed
        Ids of failed ones that no resume has opened again.
    bisected
        By id: mini-batches of which parts are finished while others are left or have failed.
    failed_items
        Items of those.
    counts
        Sums of every commit's counts.
    inputs
        How far they had been listed; None where nothing was.
    process_numbers
        For each node the next process number that is free.
    end_state
        ``"Completed"``, ``"Failed"`` or ``"Canceled"``; None while it runs or where it was killed.
    resumed
        How often it was resumed.
    part_begun, ended
        When its last part began and ended, as text; empty where it was never resumed, or has not ended.
    valid_bytes
        So many bytes of the file are whole lines; the rest is to be cut off.
    """

    header: Mapping[str, Any] | None = None
    output_length: int = 0
    order_count: int = 0
    header_line: bytes = b""
    finished: IdSet = field(default_factory=IdSet)
    failed: IdSet = field(default_factory=IdSet)
    bisected: dict[int, ItemRanges] = field(default_factory=dict)
    failed_items: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    inputs: InputsSegment | None = None
    process_numbers: dict[int, int] = field(default_factory=dict)
    end_state: str | None = None
    resumed: int = 0
    part_begun: str = ""
    ended: str = ""
    valid_bytes: int = 0

    @property
    def is_complete(self) -> bool:
        """Has every mini-batch of the inputs succeeded, or failed for good?"""
        ended = len(self.finished) + len(self.failed)
        return self.inputs is not None and self.inputs.complete and self.inputs.listed == ended

    def apply(self, entry: Mapping[str, Any]) -> None:
        """Take one line in.

        Raises
        ------
        KeyError, TypeError, ValueError
            The line has the right check sum and yet is none of ours.
        """
        match entry["kind"]:
            case "header":
                self.header = {name: value for name, value in entry.items() if name not in ("crc", "kind")}
            case "inputs":
                self.inputs = InputsSegment(entry["listed"], entry["complete"])
            case "commit":
                self._apply_commit(entry)
            case "end":
                self.end_state, self.ended = entry["state"], entry.get("at", "")
            case "resumed":
                self.end_state, self.ended = None, ""
                self.part_begun = entry.get("at", "")
                self.resumed += 1
                if entry["retry_failed"]:
                    self.open_failed()
            case kind:
                raise ValueError(f"unknown kind of line {kind!r}")

    def counted(self) -> Counts:
        """What all parts together have come to."""
        succeeded, failed = len(self.finished), self.failed_mini_batches
        items, missing = self.counts.get("items", 0), self.counts.get("failed_items", 0)
        return Counts(
            supplied=succeeded + failed,
            succeeded=succeeded,
            failed=failed,
            items=items + self.failed_items,
            succeeded_items=items - missing,
            failed_items=missing + self.failed_items,
            attempts=self.counts.get("attempts", 0),
        )

    def open_failed(self) -> None:
        """What had failed is to be tried again; of a bisected mini-batch only its failed items are."""
        self.failed, self.failed_items = IdSet(), 0
        for number, items in list(self.bisected.items()):
            items.failed = IdSet()
            if not items.finished:
                del self.bisected[number]

    def _apply_commit(self, entry: Mapping[str, Any]) -> None:
        self.output_length = entry["output"]
        self.order_count = entry.get("order", 0)
        if "header_line" in entry:
            self.header_line = entry["header_line"].encode("utf-8", "surrogateescape")
        for start, stop in decode_ranges(entry["finished"]):
            self.finished.add(start, stop)
        for part in map(Part._make, entry.get("parts", ())):
            self._apply_part(part, failed=False)
        for failure in map(_failure, entry.get("failed", ())):
            if failure.part is not None:
                self._apply_part(failure.part, failed=True)
            else:
                self.failed.add(failure.id, failure.id + 1)
            self.failed_items += failure.items
        for name, count in entry.get("counts", {}).items():
            self.counts[name] = self.counts.get(name, 0) + count
        for node, number in entry.get("process_numbers", {}).items():
            self.process_numbers[int(node)] = number

    def _apply_part(self, part: Part, *, failed: bool) -> None:
        number = part.mini_batch
        items = self.bisected.setdefault(number, ItemRanges(part.of))
        items.add(part, failed=failed)
        if items.is_complete and items.failed:  # which ones is still wanted, by a resume that tries them again
            self.failed.add(number, number + 1)
        elif items.is_complete:
            self.finished.add(number, number + 1)
            del self.bisected[number]

    @property
    def partly_done(self) -> dict[int, PartlyDone]:
        """By id: mini-batches of which parts have ended, and parts are left to be run."""
        return {
            number: PartlyDone(items.items, items.left(), bool(items.failed))
            for number, items in self.bisected.items()
            if not items.is_complete
        }

    @property
    def failed_mini_batches(self) -> int:
        """How many count as failed: also those that are being bisected and have a failed item."""
        return len(self.failed) + sum(done.failed for done in self.partly_done.values())


def _failure(entry: Mapping[str, Any]) -> Failure:
    part = entry.get("part")
    fields = {name: entry[name] for name in Failure._fields if name != "part"}
    return Failure(**fields, part=None if part is None else Part(entry["id"], *part))


def _failure_entry(failure: Failure) -> dict[str, Any]:
    """Only what was bisected has a part: [start, stop, items in all]."""
    entry = failure._asdict()
    if failure.part is None:
        del entry["part"]
    else:
        entry["part"] = list(failure.part[1:])
    return entry


class JournalWriter:
    """Appends to the journal; its memory does not grow.

    Every method writes its line at once and leaves `sync` to the caller, so that one fsync serves
    a group. A write or sync that fails cuts the file back to what was whole before, so that no
    torn line ever stands in its middle.
    """

    def __init__(self, path: Path, descriptor: int, length: int) -> None:
        self.path = path
        self.length = length
        self._descriptor = descriptor
        self._synced = length

    @classmethod
    def create(
        cls,
        path: Path,
        *,
        run: str,
        created: str,
        fingerprint: Mapping[str, Any],
        plan: Mapping[str, Any],
    ) -> JournalWriter:
        """Start a journal: its header is on disk when this returns.

        Parameters
        ----------
        path
            Where; it must not exist.
        run
            The step run's id.
        created
            When, as text.
        fingerprint
            Hashes of settings and source; compared on resume, never interpreted here.
        plan
            What planning depends on (mini_batch_size and the like): JSON values.

        Raises
        ------
        OutputError
            There is a journal already.
        """
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except FileExistsError:
            fault = Fault(str(path), "a journal of an earlier step run", "none", "another run folder, or resume it")
            raise OutputError([fault]) from None
        writer = cls(path, descriptor, 0)
        try:
            writer._write(
                "header", format=FORMAT, run=run, created=created, fingerprint=dict(fingerprint), plan=dict(plan)
            )
            writer.sync()
        except BaseException:
            writer.close()
            path.unlink()
            raise
        return writer

    @classmethod
    def reopen(cls, path: Path, state: JournalState) -> JournalWriter:
        """Go on with a journal that `read_journal` has read: a torn end is cut off."""
        return cls(path, open_cut(path, state.valid_bytes), state.valid_bytes)

    def inputs(self, listed: int, complete: bool = False) -> None:
        """So many mini-batches were listed so far."""
        self._write("inputs", listed=listed, complete=complete)

    def commit(
        self,
        *,
        output: int,
        finished: str,
        order: int = 0,
        parts: Sequence[Part] = (),
        failed: Sequence[Failure] = (),
        counts: Mapping[str, int] | None = None,
        process_numbers: Mapping[int, int] | None = None,
        header_line: bytes = b"",
    ) -> None:
        """A group of mini-batches is finished; their rows are on disk already.

        Parameters
        ----------
        output, order
            Length of the output file in bytes and of the order file in records.
        finished
            Ranges of succeeded ids.
        parts
            Parts of bisected mini-batches that succeeded.
        failed
            Those that failed for good.
        counts
            To be added to the sums.
        process_numbers
            Next free numbers, for the nodes where they have changed.
        header_line
            Given once, in the commit that wrote it into the output.
        """
        entry: dict[str, Any] = {"output": output, "finished": finished}
        if order:
            entry["order"] = order
        if parts:
            entry["parts"] = [list(part) for part in parts]
        if failed:
            entry["failed"] = [_failure_entry(failure) for failure in failed]
        if counts:
            entry["counts"] = dict(counts)
        if process_numbers:
            entry["process_numbers"] = {str(node): number for node, number in process_numbers.items()}
        if header_line:
            entry["header_line"] = header_line.decode("utf-8", "surrogateescape")
        self._write("commit", **entry)

    def end(self, state: str, at: str) -> None:
        """The step run has ended."""
        self._write("end", state=state, at=at)

    def resumed(self, at: str, retry_failed: bool) -> None:
        """The step run goes on; with ``retry_failed`` what had failed is open again."""
        self._write("resumed", at=at, retry_failed=retry_failed)

    def sync(self) -> None:
        """Have everything that was written on disk."""
        try:
            os.fsync(self._descriptor)
        except OSError:
            self._cut_back(self._synced)
            raise
        self._synced = self.length

    def close(self) -> None:
        """Close the file; nothing is written."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _write(self, kind: str, **entry: Any) -> None:
        if self._synced != self.length:
            entry["synced"] = self._synced
        # ASCII: lone surrogates in messages are escaped, any text can be journalled.
        rest = json.dumps({"kind": kind, **entry}, separators=(",", ":"))[1:].encode("ascii")
        line = b'{"crc":"%08x",' % zlib.crc32(rest) + rest + b"\n"
        view, start = memoryview(line), self.length
        try:
            while view:
                count = os.pwrite(self._descriptor, view, self.length)
                view, self.length = view[count:], self.length + count
        except OSError:
            self._cut_back(start)
            raise

    def _cut_back(self, length: int) -> None:
        """Where not even this works, ``length`` keeps saying what may be on disk."""
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, length)
            self.length = length


def read_journal(path: Path) -> JournalState:
    """What the journal says; what a crash has torn at its end is left out.

    Raises
    ------
    OutputError
        There is none, it is of a newer version, or damaged before its last group of lines.
    """
    state = JournalState()
    for entry, stop in _entries(path):
        try:
            state.apply(entry)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise OutputError([_damage(path, stop, f"{type(error).__name__}: {error}")]) from error
        state.valid_bytes = stop
    return state


def iter_failures(path: Path) -> Iterator[Failure]:
    """Every failed mini-batch, or part of one, in the order of commits, but those that a resume has opened again."""
    open_since = max((stop for entry, stop in _entries(path) if entry.get("retry_failed")), default=0)
    for entry, stop in _entries(path):
        if stop > open_since:
            yield from map(_failure, entry.get("failed", ()))


def _entries(path: Path) -> Iterator[tuple[Mapping[str, Any], int]]:
    """Whole lines and where each one ends."""
    stop = 0
    bad: Fault | None = None
    try:
        with path.open("rb") as file:
            start = 0
            for number, line in enumerate(file, 1):
                entry = _checked(line)
                if bad is None and entry is None:
                    bad = _damage(path, stop, f"line {number} is damaged")
                elif bad is None and entry is not None:
                    if number == 1:
                        _check_header(path, entry)
                    stop += len(line)
                    yield entry, stop
                elif bad is not None and entry is not None and entry.get("synced", start) > stop:
                    raise OutputError([bad])  # what is damaged was on disk before this line was written
                start += len(line)
    except FileNotFoundError:
        fault = Fault(str(path), "no such file", "the journal of a step run", "another run folder")
        raise OutputError([fault]) from None


def _checked(line: bytes) -> Mapping[str, Any] | None:
    rest = line[_PREFIX:-1]
    if not line.endswith(b"\n") or line[:_PREFIX] != b'{"crc":"%08x",' % zlib.crc32(rest):
        return None
    try:
        entry = json.loads(b"{" + rest)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def _check_header(path: Path, entry: Mapping[str, Any]) -> None:
    found = entry.get("format") if entry.get("kind") == "header" else f"a first line of kind {entry.get('kind')!r}"
    if found != FORMAT:
        fault = Fault(f"{path}, format", repr(found), repr(FORMAT), "the version of prs_dask that wrote it")
        raise OutputError([fault])


def _damage(path: Path, offset: int, found: str) -> Fault:
    return Fault(
        f"{path}, byte {offset}",
        found,
        "whole lines; only the end may be torn",
        "a copy of the file from before it was changed, or a new step run",
    )
