"""Rows exactly once, whatever happens within a commit."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prs_dask.errors import EngineError
from prs_dask.mini_batches import Part
from prs_dask.output.append_file import AppendFile
from prs_dask.output.committer import CommitFailed, Committable, Committer
from prs_dask.output.id_ranges import IdSet
from prs_dask.output.journal import Failure, JournalWriter, read_journal
from prs_dask.output.order_file import RECORD_SIZE, OrderFile
from prs_dask.output.piece_store import PieceStore

NAME = "parallel_run_step.txt"


@dataclass
class Parts:
    """Everything a committer joins, in one folder."""

    folder: Path
    journal: JournalWriter
    file: AppendFile
    order: OrderFile | None
    pieces: PieceStore
    committer: Committer

    @classmethod
    def new(cls, folder: Path, ordered: bool = False) -> Parts:
        folder.mkdir(parents=True, exist_ok=True)
        journal = JournalWriter.create(folder / "journal.jsonl", run="r", created="now", fingerprint={}, plan={})
        file = AppendFile.create(folder / "output", NAME, "run")
        return cls._joined(folder, journal, file, OrderFile(folder / "order") if ordered else None, None)

    @classmethod
    def resumed(cls, folder: Path, ordered: bool = False) -> Parts:
        state = read_journal(folder / "journal.jsonl")
        journal = JournalWriter.reopen(folder / "journal.jsonl", state)
        file = AppendFile.resume(folder / "output", NAME, "run", state.output_length)
        order = OrderFile(folder / "order", state.order_count) if ordered else None
        return cls._joined(folder, journal, file, order, state)

    @classmethod
    def _joined(cls, folder: Path, journal: Any, file: Any, order: Any, state: Any) -> Parts:
        pieces = PieceStore(folder / "pieces")
        return cls(folder, journal, file, order, pieces, Committer(journal, file, order, pieces, state))

    def close(self) -> None:
        for part in (self.journal, self.file, self.order, self.pieces):
            if part is not None:
                part.close()


def rows_of(mini_batch: int, count: int | None = None) -> bytes:
    return b"".join(b"%d/%d\n" % (mini_batch, row) for row in range(mini_batch % 4 if count is None else count))


def results(*ids: int, **more: Any) -> Committable:
    rows = [rows_of(number) for number in ids]
    return Committable(ids, [len(r) for r in rows], b"".join(rows), **more)


def failure(mini_batch: int) -> Failure:
    return Failure(mini_batch, 1, 3, "exception", "bad")


def test_rows_stand_in_the_file_and_ids_in_the_journal(tmp_path: Path) -> None:
    parts = Parts.new(tmp_path)
    counts = parts.committer.commit(
        [results(3, 1, counts={"items": 4}), results(5, 4, failures=[failure(9)], counts={"items": 6})],
        process_numbers={0: 2},
    )
    parts.close()
    written = rows_of(3) + rows_of(1) + rows_of(5) + rows_of(4)
    assert parts.file.partial.read_bytes() == written
    assert (counts.succeeded, counts.failed, counts.row_bytes, counts.output_length) == (
        4,
        1,
        len(written),
        len(written),
    )
    state = read_journal(tmp_path / "journal.jsonl")
    assert list(state.finished) == [1, 3, 4, 5]
    assert list(state.failed) == [9]
    assert (state.counts, state.process_numbers) == ({"items": 10}, {0: 2})
    assert 9 in parts.committer
    assert 2 not in parts.committer
    assert len(parts.committer) == 5


@pytest.mark.parametrize(
    "batch",
    [
        [results(1)],
        [results(7), results(2)],
        [results(8, 8)],
        [results(8), results(8)],
        [Committable(failures=[failure(2)])],
        [results(8, failures=[failure(8)])],
        [Committable([8], [3], b"12")],
        [Committable([8], [], b"")],
        [Committable([8], [2], b"1\n", pieces={8: "t"})],
        [Committable([8], [2], b"1\n", pieces={9: "t"})],
    ],
)
def test_a_wrong_or_second_result_is_refused_before_anything_is_written(tmp_path: Path, batch: Any) -> None:
    parts = Parts.new(tmp_path)
    parts.committer.commit([results(1, 2, 3)])
    before = parts.file.partial.read_bytes(), parts.journal.path.read_bytes()
    with pytest.raises(EngineError):
        parts.committer.commit(batch)
    assert (parts.file.partial.read_bytes(), parts.journal.path.read_bytes()) == before
    parts.committer.commit([results(8)])
    parts.close()
    assert 8 in read_journal(parts.journal.path).finished


def test_nothing_to_commit_writes_nothing(tmp_path: Path) -> None:
    parts = Parts.new(tmp_path)
    before = parts.journal.length
    assert parts.committer.commit([]).succeeded == 0
    assert parts.journal.length == before
    parts.close()


def test_rows_in_pieces_stand_together(tmp_path: Path) -> None:
    parts = Parts.new(tmp_path, ordered=True)
    parts.pieces.add((2, "a"), b"one ")
    parts.pieces.add((2, "late"), b"never")
    parts.pieces.add((2, "a"), b"two ")
    parts.committer.commit([Committable([3, 2, 1], [2, 6, 2], b"3\nthree\n1\n", pieces={2: "a"})])
    assert parts.file.partial.read_bytes() == b"3\none two three\n1\n"
    assert (2, "a") not in parts.pieces
    assert (2, "late") in parts.pieces
    assert parts.file.finish(parts.order).read_bytes() == b"1\none two three\n3\n"
    parts.close()
    assert not parts.pieces.folder.exists()


def test_the_header_line_is_written_once(tmp_path: Path) -> None:
    parts = Parts.new(tmp_path, ordered=True)
    parts.committer.commit([results(2)], header_line=b"a b\n")
    parts.committer.commit([results(1)], header_line=b"a b\n")
    with pytest.raises(EngineError, match="second header"):
        parts.committer.commit([results(3)], header_line=b"a c\n")
    parts.close()
    parts = Parts.resumed(tmp_path, ordered=True)
    parts.committer.commit([results(3)], header_line=b"a b\n")
    final = parts.file.finish(parts.order, len(parts.committer.header_line))
    assert final.read_bytes() == b"a b\n" + rows_of(1) + rows_of(2) + rows_of(3)
    parts.close()


def test_summary_only_journals_without_a_file(tmp_path: Path) -> None:
    journal = JournalWriter.create(tmp_path / "journal.jsonl", run="r", created="now", fingerprint={}, plan={})
    committer = Committer(journal, None)
    assert committer.commit([Committable([1, 2], [0, 0])]).output_length == 0
    assert committer.commit([Committable([3])]).succeeded == 1
    with pytest.raises(EngineError, match="summary_only"):
        committer.commit([results(5)])
    journal.close()
    assert list(read_journal(journal.path).finished) == [1, 2, 3]


def test_a_full_disk_cuts_back_to_the_last_commit_and_can_be_resumed(tmp_path: Path, file_size_limit: Any) -> None:
    parts = Parts.new(tmp_path, ordered=True)
    parts.committer.commit([results(1, 2, 3)])
    good = parts.file.partial.read_bytes(), parts.journal.path.read_bytes(), (tmp_path / "order").read_bytes()
    limit = len(good[1]) + 10_000
    big = Committable([4, 5], [9_000, 9_000], b"x" * 18_000)
    with file_size_limit(limit), pytest.raises(CommitFailed, match=r"partial.*errno 27.*resume") as caught:
        parts.committer.commit([results(7), big])
    assert (parts.file.partial.read_bytes(), parts.journal.path.read_bytes(), (tmp_path / "order").read_bytes()) == good
    with pytest.raises(CommitFailed) as again:
        parts.committer.commit([results(7)])
    assert again.value is caught.value
    parts.close()
    parts = Parts.resumed(tmp_path, ordered=True)
    parts.committer.commit([results(7), big])
    assert parts.file.partial.read_bytes() == good[0] + rows_of(7) + big.rows
    parts.close()


def test_a_journal_that_cannot_grow_cuts_the_rows_back_too(tmp_path: Path, file_size_limit: Any) -> None:
    parts = Parts.new(tmp_path)
    parts.committer.commit([results(1, 2, 3)])
    rows, length = parts.file.partial.read_bytes(), parts.journal.length
    with file_size_limit(length + 30), pytest.raises(CommitFailed):
        parts.committer.commit([results(7)])
    assert parts.file.partial.read_bytes() == rows
    assert parts.journal.path.stat().st_size == length
    parts.close()


groups_of_ids = st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=5), min_size=1, max_size=6).map(
    lambda groups: _without_doubles(groups)
)


def _without_doubles(groups: Sequence[Sequence[int]]) -> list[list[int]]:
    seen: set[int] = set()
    out = []
    for group in groups:
        new = [number for number in dict.fromkeys(group) if number not in seen]
        seen.update(new)
        out.append(new)
    return out


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(groups=groups_of_ids, journal_cut=st.floats(0, 1), rows_cut=st.floats(0, 1), ordered=st.booleans())
def test_a_crash_at_any_write_leaves_every_finished_row_exactly_once(
    tmp_path: Path, groups: list[list[int]], journal_cut: float, rows_cut: float, ordered: bool
) -> None:
    shutil.rmtree(tmp_path)
    parts = Parts.new(tmp_path, ordered)
    # A crash leaves lines up to anywhere, rows and records at least as long as the last whole line says.
    history = [(parts.journal.length, 0, 0)]
    for group in groups:
        odd = [number for number in group if number % 7 == 6]
        good = [number for number in group if number % 7 != 6]
        parts.committer.commit([results(*good, failures=[failure(number) for number in odd])])
        history.append((parts.journal.length, parts.file.length, parts.order.count if parts.order else 0))
    parts.close()
    first = history[0][0]
    cut = first + round(journal_cut * (history[-1][0] - first))
    known = max(index for index, entry in enumerate(history) if entry[0] <= cut)
    in_line = cut > history[known][0]
    following = history[min(known + 1, len(history) - 1)]
    least_rows, least_records = (following if in_line else history[known])[1:]
    rows = least_rows + round(rows_cut * (following[1] - least_rows))
    records = least_records * RECORD_SIZE + round(rows_cut * (following[2] - least_records) * RECORD_SIZE)
    for path, length in [(parts.journal.path, cut), (parts.file.partial, rows), (tmp_path / "order", records)]:
        if path.exists():
            path.write_bytes(path.read_bytes()[:length])

    parts = Parts.resumed(tmp_path, ordered)
    expected = [number for group in groups[:known] for number in group]
    assert IdSet([(n, n + 1) for n in expected]) == IdSet([(n, n + 1) for n in range(50) if n in parts.committer])
    assert parts.file.partial.read_bytes() == b"".join(rows_of(n) for n in expected if n % 7 != 6)
    rest = [n for group in groups for n in group if n not in parts.committer]
    parts.committer.commit(
        [results(*[n for n in rest if n % 7 != 6], failures=[failure(n) for n in rest if n % 7 == 6])]
    )
    final = parts.file.finish(parts.order)
    parts.close()
    everything = [n for group in groups for n in group if n % 7 != 6]
    if ordered:
        assert final.read_bytes() == b"".join(map(rows_of, sorted(everything)))
    lines = final.read_bytes().splitlines(keepends=True)
    assert Counter(lines) == Counter(line for n in everything for line in rows_of(n).splitlines(keepends=True))


# ---------------------------------------------------------------- parts of bisected mini-batches

PART_NUMBER = 1 << 48


def part_results(*parts: Part, whole: Sequence[int] = (), **more: Any) -> Committable:
    """Results of parts, whose rows are `items`, and of whole mini-batches behind them."""
    numbers = {PART_NUMBER + number: part for number, part in enumerate(parts)}
    rows = [items(part) for part in parts] + [rows_of(number) for number in whole]
    return Committable([*numbers, *whole], [len(r) for r in rows], b"".join(rows), parts=numbers, **more)


def items(part: Part) -> bytes:
    return b"".join(b"%d[%d]\n" % (part.mini_batch, item) for item in range(part.start, part.stop))


def bad_part(part: Part) -> Failure:
    return failure(part.mini_batch)._replace(items=part.items, part=part)


def test_parts_of_a_mini_batch_stand_in_item_order_where_the_order_is_that_of_the_input(tmp_path: Path) -> None:
    parts = Parts.new(tmp_path, ordered=True)
    parts.committer.commit([part_results(Part(2, 7, 9, 9), Part(2, 0, 4, 9), whole=[3, 1])])
    parts.pieces.add((PART_NUMBER + 1, "t"), b"in pieces\n")
    last = Committable(
        [PART_NUMBER + 1], [2], b"6\n", {PART_NUMBER + 1: "t"}, parts={PART_NUMBER + 1: Part(2, 6, 7, 9)}
    )
    counts = parts.committer.commit([last, part_results(Part(2, 4, 6, 9))])
    assert (counts.succeeded, counts.failed) == (1, 0)
    final = parts.file.finish(parts.order).read_bytes()
    middle = items(Part(2, 0, 6, 9)) + b"in pieces\n6\n" + items(Part(2, 7, 9, 9))
    assert final == rows_of(1) + middle + rows_of(3)
    parts.close()


def test_a_bisected_mini_batch_is_committed_with_its_last_part(tmp_path: Path) -> None:
    parts = Parts.new(tmp_path)
    counts = parts.committer.commit([part_results(Part(2, 0, 4, 9), failures=[bad_part(Part(2, 4, 5, 9))])])
    assert (counts.succeeded, counts.failed) == (0, 0)
    assert 2 not in parts.committer
    counts = parts.committer.commit([part_results(Part(2, 5, 9, 9))])
    assert (counts.succeeded, counts.failed) == (0, 1)
    assert 2 in parts.committer
    parts.close()


def test_a_failed_part_alone_is_written_too(tmp_path: Path) -> None:
    parts = Parts.new(tmp_path)
    parts.committer.commit([Committable(failures=[bad_part(Part(2, 4, 5, 9))])])
    parts.close()
    assert read_journal(parts.journal.path).partly_done[2].left == ((0, 4), (5, 9))


@pytest.mark.parametrize(
    "batch",
    [
        [part_results(Part(1, 0, 2, 9))],
        [part_results(Part(2, 3, 5, 9))],
        [part_results(Part(2, 0, 2, 8))],
        [part_results(Part(5, 0, 2, 9), Part(5, 1, 3, 9))],
        [part_results(Part(5, 0, 2, 9)), part_results(Part(5, 1, 3, 9))],
        [part_results(Part(5, 0, 2, 9), failures=[bad_part(Part(5, 1, 2, 9))])],
        [part_results(Part(5, 0, 2, 9), whole=[5])],
        [part_results(Part(5, 0, 2, 9), failures=[failure(5)])],
        [results(2)],
        [Committable(failures=[failure(2)])],
    ],
)
def test_an_item_of_a_bisected_mini_batch_is_never_committed_twice(tmp_path: Path, batch: Any) -> None:
    parts = Parts.new(tmp_path)
    parts.committer.commit([results(1), part_results(Part(2, 0, 4, 9))])
    for again in range(2):
        before = parts.file.partial.read_bytes(), parts.journal.path.read_bytes()
        with pytest.raises(EngineError):
            parts.committer.commit(batch)
        assert (parts.file.partial.read_bytes(), parts.journal.path.read_bytes()) == before
        parts.close()
        if not again:
            parts = Parts.resumed(tmp_path)
