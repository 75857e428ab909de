"""What `format_attempts` has written is read again, whatever it holds and whatever became of the file."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prs_dask.attempts.records import AttemptError, AttemptRecord, Category, pack
from prs_dask.logs.attempt_reader import AttemptRow, iter_attempts
from prs_dask.logs.attempt_table import HEADER, READ, format_attempts, has_read_seconds
from prs_dask.logs.places import ATTEMPT_COLUMNS
from prs_dask.mini_batches import Part

TEXT = st.text(st.characters(exclude_categories=()), max_size=30)
SECONDS = st.floats(0, 1e6, width=32)


@st.composite
def attempts(draw: st.DrawFn) -> tuple[int, int, AttemptRecord, AttemptError | None, str, Part | None]:
    category = draw(st.sampled_from([0, 0, *map(int, Category), 77]))
    number, items = draw(st.integers(0, 2**62)), draw(st.integers(0, 2**31))
    part = Part(number, 3, draw(st.integers(4, 9)), 10) if draw(st.booleans()) else None
    record = AttemptRecord(
        number, draw(st.integers(1, 60_000)), category,
        1 if not category else 0 if category == Category.OVERTAKEN else draw(st.integers(0, 1)),
        items, draw(st.integers(0, items)) if not category else 0, 0,
        draw(st.integers(0, 4_000_000_000_000)) / 1000, *(draw(SECONDS) for _ in range(4)),
    )  # fmt: skip
    node, process = draw(st.sampled_from([(-1, -1), (0, 0), (7, 12345)]))
    error = AttemptError(draw(TEXT), draw(TEXT)) if category and draw(st.booleans()) else None
    return node, process, record, error, draw(TEXT), part


def formatted(
    node: int, process: int, record: AttemptRecord, error: AttemptError | None, detail: str, part: Part | None
) -> bytes:
    number = record.mini_batch
    return format_attempts(
        node, process, pack([record]), {number: detail}, {number: error} if error else {},
        names={number: part} if part else None,
    )  # fmt: skip


@given(st.lists(attempts(), max_size=5))
def test_reading_is_the_inverse_of_formatting(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple]) -> None:  # type: ignore[type-arg]
    path = tmp_path_factory.mktemp("logs") / "attempts.csv"
    path.write_bytes(HEADER + b"".join(formatted(*row) for row in rows))
    reader = iter_attempts(path)
    found = list(reader)
    assert reader.torn == 0
    assert len(found) == len(rows)
    for one, (node, process, record, error, _, part) in zip(found, rows, strict=True):
        assert (one.node, one.process) == (node, process)
        assert one.part == (None if part is None else part[1:3])
        assert one.name == str(part or record.mini_batch)
        assert bool(one.message) == (error is not None)
        assert one.record[:7] == record[:7]
        assert one.record.started == pytest.approx(record.started, abs=0.0011)
        assert one.record.elapsed == pytest.approx(record.elapsed, abs=1e-6)
        assert one.record[-3:] == pytest.approx(record[-3:], abs=1e-6)
    again = b"".join(
        format_attempts(
            one.node, one.process, pack([one.record]), {one.record.mini_batch: one.detail},
            {one.record.mini_batch: AttemptError("", one.message)} if one.message else {},
            names={one.record.mini_batch: one.name},
        )
        for one in found
    )  # fmt: skip
    assert [row.name for row in read(path, HEADER + again)] == [row.name for row in found]
    assert [row.detail for row in read(path, HEADER + again)] == [row.detail for row in found]


def read(path: Path, data: bytes, **how: bool) -> list[AttemptRow]:
    path.write_bytes(data)
    return list(iter_attempts(path, **how))


def attempt(number: int, category: int = 0, final: int = 1) -> AttemptRecord:
    return AttemptRecord(number, 1, category, final, 10, 0 if category else 10, 0, 1e9, 1.5, 0.25, 1.0, 0.5)


def line(number: int, category: int = 0, final: int = 1, detail: str = "a.png") -> bytes:
    errors = {number: AttemptError("ValueError", 'bad, "really"')} if category else {}
    return format_attempts(0, 3, pack([attempt(number, category, final)]), {number: detail}, errors)


def test_a_table_that_is_not_there_has_no_rows(tmp_path: Path) -> None:
    assert list(iter_attempts(tmp_path / "none.csv")) == []


@pytest.mark.parametrize("data", [b"", HEADER, HEADER[:30]])
def test_a_table_that_has_just_begun_has_no_rows(data: bytes, tmp_path: Path) -> None:
    assert read(tmp_path / "a.csv", data) == []


def test_wherever_a_line_was_torn_the_others_are_read(tmp_path: Path) -> None:
    whole = line(2, int(Category.EXCEPTION))
    for length in range(1, len(whole)):
        path = tmp_path / "a.csv"
        path.write_bytes(HEADER + line(1) + whole[:length] + b"\n" + line(3))
        reader = iter_attempts(path)
        assert [row.name for row in reader if row.name in "13"] == ["1", "3"]
        path.write_bytes(HEADER + line(1) + whole[:length])
        assert [row.name for row in reader] == ["1"]
        assert reader.torn == 1


def test_a_row_that_was_appended_to_a_torn_one_is_lost_with_it_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(HEADER + line(1) + line(2)[:40] + line(3) + b"\0" * 100 + b"\n" + line(4))
    reader = iter_attempts(path)
    assert [row.name for row in reader] == ["1", "4"]
    assert reader.torn == 2


def test_without_its_header_a_table_is_read_all_the_same(tmp_path: Path) -> None:
    assert [row.record.mini_batch for row in read(tmp_path / "a.csv", line(5) + line(6))] == [5, 6]


def test_a_table_of_an_earlier_version_has_no_seconds_of_reading(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    before = ",".join(name for name in ATTEMPT_COLUMNS if name != READ) + "\n"
    rows = format_attempts(0, 3, pack([attempt(5)]), {5: "a.png"}, read_seconds=False)
    for data in (before.encode() + rows, rows):  # with its header, and without
        (row,) = read(path, data)
        assert (row.record.mini_batch, row.record.run, row.record.read, row.detail) == (5, 1.0, 0.0, "a.png")
    assert not has_read_seconds(before.encode())
    assert has_read_seconds(HEADER)


def test_columns_are_found_by_name(tmp_path: Path) -> None:
    names = HEADER.decode().strip().split(",")
    fields = line(5).decode().strip().split(",")
    data = ",".join(["More", *names[::-1]]) + "\n" + ",".join(["x", *fields[::-1]]) + "\n"
    (row,) = read(tmp_path / "a.csv", data.encode())
    assert (row.record.mini_batch, row.record.run, row.record.read, row.detail) == (5, 1.0, 0.25, "a.png")


def test_of_two_final_rows_of_one_mini_batch_the_last_counts(tmp_path: Path) -> None:
    failed = int(Category.EXCEPTION)
    data = HEADER + line(1, failed) + line(2, failed) + line(3) + line(1, failed, 0) + line(1) + line(2, failed)
    finals = [(row.name, row.record.final) for row in read(tmp_path / "a.csv", data, resumed=True)]
    assert finals == [("1", 0), ("2", 0), ("3", 1), ("1", 0), ("1", 1), ("2", 1)]
    assert [row.record.final for row in read(tmp_path / "a.csv", data)] == [1, 1, 1, 0, 1, 1]
