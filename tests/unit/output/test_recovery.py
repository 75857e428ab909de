"""A host that crashes at any moment: whatever a disk may hold then, a resume ends with the undisturbed output.

All writes, cuts and fsyncs of a real committer's run are recorded: of one that begins, and of one that is resumed from
what a crash has left, tries again what had failed, and goes on in the middle of bisected mini-batches. What was
written before a file's last fsync is on disk; of what came after it any part may be: nothing, all, all but the first,
all but the last, and the last one torn anywhere. A file is longer where a later write came to disk and an earlier one
did not: what is missing reads as zeros.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from prs_dask.mini_batches import Part
from prs_dask.mini_batches.descriptors import FileMiniBatch
from prs_dask.mini_batches.json_form import from_line, kept
from prs_dask.output.append_file import AppendFile
from prs_dask.output.committer import Committable, Committer
from prs_dask.output.journal import Failure, JournalState, JournalWriter, read_journal
from prs_dask.output.manifest import ManifestWriter, read_manifest, read_members
from prs_dask.output.order_file import OrderFile
from prs_dask.output.piece_store import PieceStore

NAME = "rows.txt"
HEADER = b"item row\n"
IN_PIECES = {6, 13}
BAD = Part(7, 1, 2, 3)
FAILING = {4, 11, BAD}
GROUPS: tuple[tuple[int | Part, ...], ...] = (
    (2, 0, 1),
    (5, Part(3, 0, 1, 3), 4),
    (6, Part(7, 0, 1, 3)),
    (Part(3, 1, 3, 3), 9, 8, BAD),
    (10, 12, 11),
    (Part(7, 2, 3, 3), 13, 14),
)
LAST = 14
FAILED = {4, 11, 7}
FINISHED = set(range(LAST + 1)) - FAILED
ITEMS = len(FINISHED) - 1 + 3 + 2  # all items of mini-batch 3, and two of mini-batch 7, count
ALL = [FileMiniBatch(0, (f"/data/{number}",)) for number in range(LAST + 1)]
FIRST_PART = 4


def number_of(unit: int | Part) -> int:
    return unit.mini_batch if isinstance(unit, Part) else unit


def rows_of(unit: int | Part) -> bytes:
    """None for some, a line or more for others; one for each item of a bisected one."""
    number = number_of(unit)
    rows = range(unit.start, unit.stop) if isinstance(unit, Part) else range(number % 4)
    return b"".join(b"%d %d\n" % (number, row) for row in rows)


def rows_in(state: JournalState) -> bytes:
    """The rows of all that is finished, in order."""
    units: list[int | Part] = list(state.finished)
    for number, items in state.bisected.items():
        units += [Part(number, start, stop, items.items) for start, stop in items.finished.ranges()]
    return b"".join(map(rows_of, sorted(units, key=number_of)))


class Run:
    """A committer with everything it joins, in one folder; begun, or resumed from what is there."""

    def __init__(self, folder: Path, *, retry_failed: bool = False) -> None:
        journal, output, manifest = folder / "journal.jsonl", folder / "output", folder / "inputs.jsonl.gz"
        state = read_journal(journal) if journal.exists() else None
        self.resumed = state is not None and state.header is not None
        self.retry_failed = retry_failed
        if state is not None and self.resumed:
            if retry_failed:
                state.open_failed()
            self.manifest = ManifestWriter.reopen(manifest, read_manifest(manifest))
            self.journal = JournalWriter.reopen(journal, state)
            self.file = AppendFile.resume(output, NAME, "run", state.output_length)
            self.order = OrderFile(folder / "order", state.order_count)
        else:
            self.manifest = ManifestWriter.create(manifest, {"inputs": []})
            self.journal = JournalWriter.create(journal, run="r", created="now", fingerprint={}, plan={})
            self.file = AppendFile.create(output, NAME, "run")
            self.order = OrderFile(folder / "order")
        self.pieces = PieceStore(folder / "pieces")
        self.committer = Committer(self.journal, self.file, self.order, self.pieces, state)
        self.left = {number: done.left for number, done in state.partly_done.items()} if state is not None else {}

    def has_ended(self, unit: int | Part) -> bool:
        number = number_of(unit)
        if number in self.committer or not isinstance(unit, Part):
            return number in self.committer
        return number in self.left and not any(start <= unit.start < stop for start, stop in self.left[number])

    def commit(self, group: Sequence[int | Part]) -> None:
        ended = [unit for unit in group if not self.has_ended(unit)]
        good = {(1 << 48) + at if isinstance(unit, Part) else unit: unit for at, unit in enumerate(ended)}
        good = {id: unit for id, unit in good.items() if unit not in FAILING}
        rows = {id: rows_of(unit) for id, unit in good.items()}
        pieces = {id: "t" for id in good if id in IN_PIECES}
        for id in pieces:
            for start in range(0, len(rows[id]), 3):
                self.pieces.add((id, "t"), rows[id][start : start + 3])
            rows[id] = b""
        parts = {id: unit for id, unit in good.items() if isinstance(unit, Part)}
        failures = [
            Failure(number_of(unit), 1, 3, "exception", "bad \udcff", unit if isinstance(unit, Part) else None)
            for unit in ended
            if unit in FAILING
        ]
        items = sum(unit.stop - unit.start if isinstance(unit, Part) else 1 for unit in good.values())
        lengths = [len(one) for one in rows.values()]
        item = Committable(list(good), lengths, b"".join(rows.values()), pieces, failures, {"items": items}, parts)
        numbers = {0: max(map(number_of, group))}
        self.committer.commit([item], header_line=HEADER, process_numbers=numbers)

    def work(self, groups: Sequence[Sequence[int | Part]] = GROUPS) -> None:
        """All of it, or what is left of it; what is listed is on disk before the journal tells it."""
        if self.resumed:
            self.journal.resumed("now", self.retry_failed)
            self.journal.sync()
        for number, group in enumerate(groups):
            stop, complete = max(map(number_of, group)) + 1, number == len(GROUPS) - 1
            self.manifest.append(0, ALL[:stop], at=1.5)
            self.manifest.append(0, ALL[: stop + 2], at=1.5)  # listed ahead: all of it before the last group
            if complete:
                self.manifest.end()
            self.manifest.sync(stop)
            self.journal.inputs(stop, complete)
            self.journal.inputs(stop, complete)  # a second line before anything is synced
            self.commit(group)
        self.journal.end("Failed", "now")
        self.journal.sync()

    def close(self) -> None:
        for part in (self.manifest, self.journal, self.file, self.order, self.pieces):
            part.close()


@dataclass
class Disk:
    """What one file may hold after a crash."""

    path: Path
    safe: bytes
    loose: list[tuple[int, bytes | None]] = field(default_factory=list)

    def write(self, offset: int, data: bytes | None) -> None:
        """None: it is cut off there."""
        self.loose.append((offset, data))

    def sync(self) -> None:
        self.safe, self.loose = self._with(self.loose), []

    def copy(self) -> Disk:
        return Disk(self.path, self.safe, list(self.loose))

    def _with(self, writes: Sequence[tuple[int, bytes | None]]) -> bytes:
        content = bytearray(self.safe)
        for offset, data in writes:
            content.extend(bytes(max(0, offset + len(data or b"") - len(content))))
            if data is None:
                del content[offset:]
            else:
                content[offset : offset + len(data)] = data
        return bytes(content)

    def contents(self) -> list[bytes]:
        """With any of the loose writes, as the module's docstring says; torn ones apart."""
        loose = self.loose
        chosen = [[], loose, loose[1:], loose[:-1], loose[1:-1], loose[:1]]
        return list(dict.fromkeys(map(self._with, chosen)))

    def torn(self) -> Iterator[bytes]:
        """All writes but a rest of the last one."""
        if self.loose:
            offset, data = self.loose[-1]
            for cut in range(1, len(data or b""), 1 if self.path.suffix == ".jsonl" else 5):
                yield self._with([*self.loose[:-1], (offset, (data or b"")[:cut])])


class Recorder:
    """The disks before each write, cut and fsync of what works in a folder, and after each."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        names = ("journal.jsonl", "inputs.jsonl.gz", f"output/{NAME}.partial", "order")
        self.disks = {folder / name: Disk(Path(name), (folder / name).read_bytes()) for name in names}
        self.states = [self._copy()]
        self._monkeypatch = monkeypatch

    def record(self, work: Callable[[], None]) -> None:
        real_write, real_cut, real_sync = os.pwrite, os.ftruncate, os.fsync

        def write(descriptor: int, data: Any, offset: int) -> int:
            written = real_write(descriptor, data, offset)
            self._note(descriptor, lambda disk: disk.write(offset, bytes(data[:written])))
            return written

        def cut(descriptor: int, length: int) -> None:
            real_cut(descriptor, length)
            self._note(descriptor, lambda disk: disk.write(length, None))

        def sync(descriptor: int) -> None:
            real_sync(descriptor)
            self._note(descriptor, Disk.sync)

        with self._monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", write)
            patch.setattr(os, "ftruncate", cut)
            patch.setattr(os, "fsync", sync)
            work()

    def _note(self, descriptor: int, happened: Callable[[Disk], None]) -> None:
        disk = self.disks.get(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
        if disk is not None:
            happened(disk)
            self.states.append(self._copy())

    def _copy(self) -> dict[Path, Disk]:
        return {path: disk.copy() for path, disk in self.disks.items()}


def first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[Path, Disk]]:
    """From the moment on at which a journal and an output have begun."""
    run = Run(folder)
    recorder = Recorder(folder, monkeypatch)
    recorder.record(run.work)
    run.close()
    return recorder.states


def resumed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[Path, Disk]]:
    """From what a crash has left amid bisected mini-batches, one with a failed item; all files have a torn end."""
    run = Run(folder)
    run.work(GROUPS[:FIRST_PART])
    run.close()
    for path in (run.journal.path, run.manifest.path, run.file.partial, run.order.path):
        with path.open("ab") as file:
            file.write(b'{"crc":"00000000","kind":"commit"')
    recorder = Recorder(folder, monkeypatch)

    def resume() -> None:
        run = Run(folder, retry_failed=True)
        run.work()
        run.close()

    recorder.record(resume)
    return recorder.states


@pytest.fixture(params=[first, resumed], ids=["first", "resumed"])
def history(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[Path, Disk]]:
    (tmp_path / "recorded").mkdir()
    states: list[dict[Path, Disk]] = request.param(tmp_path / "recorded", monkeypatch)
    monkeypatch.setattr(os, "fsync", lambda _: None)  # of what follows nothing crashes
    return states


class Recoveries:
    """Resumes from files as a crash may leave them; once from those that differ in a torn end only."""

    def __init__(self, folder: Path, *, retry_failed: bool) -> None:
        self.folder = folder
        self.retry_failed = retry_failed
        self.tried: set[tuple[bytes, ...]] = set()
        self._read: dict[bytes, Any] = {}
        (folder / "output").mkdir(parents=True)

    def recover(self, disks: dict[Path, Disk], contents: tuple[bytes, ...]) -> None:
        """The rest of the work makes the undisturbed output of it."""
        folder = self.folder
        journal, manifest, *others = contents
        known, listed = self.read(read_journal, journal), self.read(read_manifest, manifest)
        key = (journal[: known.valid_bytes], manifest[: listed.valid_bytes], *others)
        if key in self.tried:
            return
        self.tried.add(key)
        if known.inputs is not None:
            assert listed.count >= known.inputs.listed
            assert listed.was_complete or not known.inputs.complete
        for disk, content in zip(disks.values(), contents, strict=True):
            (folder / disk.path).write_bytes(content)
        assert self.check_listed() == listed.count
        (folder / "output" / NAME).unlink(missing_ok=True)
        (folder / "output" / f"{NAME}.partial.owner").write_text("run")
        run = Run(folder, retry_failed=self.retry_failed)
        assert run.file.partial.stat().st_size == known.output_length
        lines = run.file.partial.read_bytes().splitlines(keepends=True)
        finished = rows_in(known).splitlines(keepends=True)
        assert Counter(lines) == Counter(finished) + Counter([HEADER] if known.header_line else [])
        run.work()
        after = read_journal(folder / "journal.jsonl")
        assert (set(after.finished), set(after.failed)) == (FINISHED, FAILED)
        assert (after.counts["items"], after.failed_items, after.partly_done) == (ITEMS, len(FAILED), {})
        assert {number: items.failed.ranges() for number, items in after.bisected.items()} == {7: [(1, 2)]}
        assert self.check_listed() == LAST + 1
        assert read_manifest(folder / "inputs.jsonl.gz").complete
        output = run.file.finish(run.order, len(run.committer.header_line))
        assert output.read_bytes() == HEADER + rows_in(after)
        run.close()

    def read(self, reader: Callable[[Path], Any], content: bytes) -> Any:
        """What a file of this content says."""
        if content not in self._read:
            (self.folder / "read").write_bytes(content)
            self._read[content] = reader(self.folder / "read")
        return self._read[content]

    def check_listed(self) -> int:
        """The mini-batches in the manifest are those that were listed; how many."""
        found = [from_line(line) for member in read_members(self.folder / "inputs.jsonl.gz") for line in member.lines]
        assert found == [kept(one) for one in ALL[: len(found)]]
        return len(found)


@pytest.fixture
def recoveries(request: pytest.FixtureRequest, tmp_path: Path) -> Recoveries:
    retry_failed = request.node.callspec.params["history"] is resumed
    return Recoveries(tmp_path / "crashed", retry_failed=retry_failed)


def test_whatever_of_the_writes_came_to_disk_nothing_is_lost_or_doubled(recoveries, history):
    for disks in history:
        for contents in itertools.product(*(disk.contents() for disk in disks.values())):
            recoveries.recover(disks, contents)
    assert len(recoveries.tried) > 50


def test_wherever_the_last_write_is_torn_nothing_is_lost_or_doubled(recoveries, history):
    torn = 0
    for disks in history:
        contents = [disk.contents()[-1] for disk in disks.values()]
        for place, disk in enumerate(disks.values()):
            for content in disk.torn():
                recoveries.recover(disks, (*contents[:place], content, *contents[place + 1 :]))
                torn += 1
    assert torn > 1000


def test_what_a_commit_has_returned_from_is_finished_after_every_crash(tmp_path, history):
    synced = 0
    for disks in history:
        journal = next(iter(disks.values()))
        (tmp_path / "safe").write_bytes(journal.safe)
        finished = len(read_journal(tmp_path / "safe").finished)
        assert finished >= synced
        synced = finished
        for content in journal.contents():
            (tmp_path / "torn").write_bytes(content)
            assert len(read_journal(tmp_path / "torn").finished) >= finished
    assert synced == len(FINISHED)
