"""Descriptors survive the wire, whatever their paths hold."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from prs_dask.mini_batches import (
    FileMiniBatch,
    FrameMiniBatch,
    PartMiniBatch,
    QueryMiniBatch,
    RowGroupMiniBatch,
    TextMiniBatch,
    decode,
    encode,
)

PATHS = st.binary(min_size=1, max_size=20).map(lambda name: name.decode("utf-8", "surrogateescape"))
NUMBERS = st.integers(-1, 1 << 62)
VALUES = st.lists(st.none() | st.integers() | st.floats(allow_nan=False) | PATHS | st.datetimes()).map(tuple)
TABLES = st.one_of(
    st.builds(TextMiniBatch, NUMBERS, PATHS, NUMBERS, NUMBERS, st.none() | NUMBERS),
    st.builds(RowGroupMiniBatch, NUMBERS, PATHS, NUMBERS, NUMBERS, st.none() | NUMBERS),
)
MINI_BATCHES = st.one_of(
    st.builds(FileMiniBatch, NUMBERS, st.lists(PATHS).map(tuple), st.lists(PATHS).map(tuple), VALUES),
    TABLES,
    st.builds(QueryMiniBatch, NUMBERS),
    st.builds(FrameMiniBatch, NUMBERS, st.binary(), NUMBERS, NUMBERS),
    st.builds(PartMiniBatch, NUMBERS, st.lists(TABLES).map(tuple), VALUES, st.lists(PATHS).map(tuple)),
)


@given(MINI_BATCHES)
def test_what_is_decoded_is_what_was_encoded(mini_batch):
    decoded = decode(encode(mini_batch))
    assert decoded == mini_batch
    assert type(decoded) is type(mini_batch)
    if isinstance(mini_batch, PartMiniBatch):
        assert list(map(type, decoded.parts)) == list(map(type, mini_batch.parts))


def test_items_are_known_for_files_and_told_for_tables():
    assert FileMiniBatch(0, ("a", "b")).items == 2
    assert TextMiniBatch(0, "a", 0, 9).items is None
    assert RowGroupMiniBatch(0, "a", 0, 2, 100).items == 100
    assert FrameMiniBatch(0, b"", 10, 5).items == 5
    assert QueryMiniBatch(0).items is None
    assert PartMiniBatch(0, (), ()).items is None


def test_a_detail_says_in_a_line_what_a_mini_batch_holds():
    assert FileMiniBatch(0, ("a",)).detail == "a"
    assert FileMiniBatch(0, ("a", "b", "c")).detail == "3 files: a .. c"
    assert TextMiniBatch(0, "a", 5, 9).detail == "a bytes 5..9"
    assert TextMiniBatch(0, "a", 5, -1).detail == "a"
    assert RowGroupMiniBatch(0, "a", 0, 2).detail == "a row groups 0..2"
    parts = (TextMiniBatch(0, "a", -1, -1), TextMiniBatch(0, "b", -1, -1))
    assert PartMiniBatch(0, parts[:1], (2, "x")).items is None
    assert PartMiniBatch(0, parts[:1], (2, "x")).detail == "(2, x) in a"
    assert PartMiniBatch(0, parts, (2, None)).detail == "(2, None) in a .. b, 2 files"
    assert FrameMiniBatch(0, b"", 10, 5).detail == "rows 10..15"
    assert QueryMiniBatch(0).detail == "the SQL query"


def test_rows_in_memory_are_not_shown():
    assert repr(FrameMiniBatch(1, b"secret", 10, 5)) == "FrameMiniBatch(input=1, rows 10..15, 6 bytes)"
