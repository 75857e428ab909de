"""A host that crashes at any moment: whatever a disk may hold then, a resume ends with the undisturbed output.

All writes and fsyncs of a real committer's run are recorded. What was written before a file's last fsync is on disk; of
what came after it any part may be: nothing, all, all but the first, all but the last, and the last one torn anywhere. A
file is longer where a later write came to disk and an earlier one did not: what is missing reads as zeros.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from prs_dask.output.append_file import AppendFile
from prs_dask.output.committer import Committable, Committer
from prs_dask.output.journal import Failure, JournalWriter, read_journal
from prs_dask.output.order_file import OrderFile
from prs_dask.output.piece_store import PieceStore

NAME = "rows.txt"
HEADER = b"item row\n"
FAILING = {4, 11}
IN_PIECES = {6, 13}
GROUPS = ((2, 0, 1), (5, 3, 4), (6,), (9, 8, 7, 11), (10, 12), (13, 14))
LAST = 14


def rows_of(number: int) -> bytes:
    """None for some, a line or more for others."""
    return b"".join(b"%d %d\n" % (number, row) for row in range(number % 4))


class Run:
    """A committer with everything it joins, in one folder; begun, or resumed from what is there."""

    def __init__(self, folder: Path) -> None:
        journal, output = folder / "journal.jsonl", folder / "output"
        state = read_journal(journal) if journal.exists() else None
        self.resumed = state is not None and state.header is not None
        if state is not None and self.resumed:
            self.journal = JournalWriter.reopen(journal, state)
            self.file = AppendFile.resume(output, NAME, "run", state.output_length)
            self.order = OrderFile(folder / "order", state.order_count)
        else:
            self.journal = JournalWriter.create(journal, run="r", created="now", fingerprint={}, plan={})
            self.file = AppendFile.create(output, NAME, "run")
            self.order = OrderFile(folder / "order")
        self.pieces = PieceStore(folder / "pieces")
        self.committer = Committer(self.journal, self.file, self.order, self.pieces, state)

    def commit(self, group: tuple[int, ...]) -> None:
        ended = [number for number in group if number not in self.committer]
        good = [number for number in ended if number not in FAILING]
        rows = [rows_of(number) for number in good]
        lengths = [0 if number in IN_PIECES else len(one) for number, one in zip(good, rows, strict=True)]
        pieces = {number: "t" for number in good if number in IN_PIECES}
        for number, one in zip(good, rows, strict=True):
            if number in IN_PIECES:
                for start in range(0, len(one), 3):
                    self.pieces.add((number, "t"), one[start : start + 3])
        item = Committable(
            good,
            lengths,
            b"".join(one for number, one in zip(good, rows, strict=True) if number not in IN_PIECES),
            pieces,
            [Failure(number, 1, 3, "exception", "bad \udcff") for number in ended if number in FAILING],
            {"items": len(good)},
        )
        self.committer.commit([item], header_line=HEADER, process_numbers={0: max(group)})

    def work(self) -> None:
        """All of it, or what is left of it; ends, is resumed and ends again on the way."""
        if self.resumed:
            self.journal.resumed("now", retry_failed=False)
            self.journal.sync()
        for number, group in enumerate(GROUPS):
            self.journal.inputs(max(group) + 1, complete=number == len(GROUPS) - 1)
            self.journal.inputs(LAST + 1, complete=False)  # a second line before anything is synced
            self.commit(group)
        self.journal.end("Failed", "now")
        self.journal.sync()

    def close(self) -> None:
        for part in (self.journal, self.file, self.order, self.pieces):
            part.close()


@dataclass
class Disk:
    """What one file may hold after a crash."""

    path: Path
    safe: bytes
    loose: list[tuple[int, bytes]] = field(default_factory=list)

    def write(self, offset: int, data: bytes) -> None:
        self.loose.append((offset, data))

    def sync(self) -> None:
        self.safe, self.loose = self._with(self.loose), []

    def copy(self) -> Disk:
        return Disk(self.path, self.safe, list(self.loose))

    def _with(self, writes: list[tuple[int, bytes]]) -> bytes:
        content = bytearray(self.safe)
        for offset, data in writes:
            content.extend(bytes(max(0, offset + len(data) - len(content))))
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
            for cut in range(1, len(data), 1 if self.path.suffix == ".jsonl" else 5):
                yield self._with([*self.loose[:-1], (offset, data[:cut])])


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[Path, Disk]]:
    """The disks before each write and after each, from the moment on at which a journal and an output have begun."""
    folder = tmp_path / "recorded"
    folder.mkdir()
    run = Run(folder)
    paths = [folder / "journal.jsonl", run.file.partial, folder / "order"]
    disks = {path: Disk(path.relative_to(folder), path.read_bytes()) for path in paths}
    states = [{path: disk.copy() for path, disk in disks.items()}]
    real_write, real_sync = os.pwrite, os.fsync

    def disk_of(descriptor: int) -> Disk | None:
        return disks.get(Path(os.readlink(f"/proc/self/fd/{descriptor}")))

    def write(descriptor: int, data: Any, offset: int) -> int:
        written = real_write(descriptor, data, offset)
        if (disk := disk_of(descriptor)) is not None:
            disk.write(offset, bytes(data[:written]))
            states.append({path: one.copy() for path, one in disks.items()})
        return written

    def sync(descriptor: int) -> None:
        real_sync(descriptor)
        if (disk := disk_of(descriptor)) is not None:
            disk.sync()
            states.append({path: one.copy() for path, one in disks.items()})

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", write)
        patch.setattr(os, "fsync", sync)
        run.work()
    run.close()
    monkeypatch.setattr(os, "fsync", lambda _: None)  # of what follows nothing crashes
    return states


class Recoveries:
    """Resumes from files as a crash may leave them; once from those that differ in a torn end only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tried: set[tuple[bytes, ...]] = set()
        (folder / "output").mkdir(parents=True)

    def recover(self, disks: dict[Path, Disk], contents: tuple[bytes, ...]) -> None:
        """The rest of the work makes the undisturbed output of it."""
        folder = self.folder
        journal, *others = contents
        (folder / "journal.jsonl").write_bytes(journal)
        known = read_journal(folder / "journal.jsonl")
        key = (journal[: known.valid_bytes], *others)
        if key in self.tried:
            return
        self.tried.add(key)
        for disk, content in zip(disks.values(), contents, strict=True):
            (folder / disk.path).write_bytes(content)
        (folder / "output" / NAME).unlink(missing_ok=True)
        (folder / "output" / f"{NAME}.partial.owner").write_text("run")
        run = Run(folder)
        assert run.file.partial.stat().st_size == known.output_length
        lines = run.file.partial.read_bytes().splitlines(keepends=True)
        finished = [row for number in known.finished for row in rows_of(number).splitlines(keepends=True)]
        assert Counter(lines) == Counter(finished) + Counter([HEADER] if known.header_line else [])
        run.work()
        after = read_journal(folder / "journal.jsonl")
        assert len(after.finished) == LAST + 1 - len(FAILING)
        assert (set(after.failed), after.counts["items"]) == (FAILING, len(after.finished))
        output = run.file.finish(run.order, len(run.committer.header_line))
        assert output.read_bytes() == HEADER + b"".join(map(rows_of, sorted(after.finished)))
        run.close()


@pytest.fixture
def recoveries(tmp_path: Path) -> Recoveries:
    return Recoveries(tmp_path / "crashed")


def test_whatever_of_the_writes_came_to_disk_nothing_is_lost_or_doubled(recoveries, history):
    for disks in history:
        for contents in itertools.product(*(disk.contents() for disk in disks.values())):
            recoveries.recover(disks, contents)
    assert len(recoveries.tried) > 50


def test_wherever_the_last_write_is_torn_nothing_is_lost_or_doubled(recoveries, history):
    torn = 0
    for disks in history:
        for place, disk in enumerate(disks.values()):
            for content in disk.torn():
                contents = [one.contents()[-1] for one in disks.values()]
                contents[place] = content
                recoveries.recover(disks, tuple(contents))
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
    assert synced == LAST + 1 - len(FAILING)
