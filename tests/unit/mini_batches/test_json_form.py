"""Descriptors survive as lines of JSON, whatever their paths and keys hold; rows in memory as their hash."""

from __future__ import annotations

import json
import string
from datetime import UTC

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prs_dask.mini_batches import (
    BisectedMiniBatch,
    FileMiniBatch,
    FrameMiniBatch,
    Part,
    PartMiniBatch,
    QueryMiniBatch,
    RowGroupMiniBatch,
    TextMiniBatch,
)
from prs_dask.mini_batches.json_form import RowsHash, from_line, from_lines, kept, to_line

PATHS = st.binary(max_size=20).map(lambda name: name.decode("utf-8", "surrogateescape")) | st.text(max_size=10)
NUMBERS = st.integers(-1, 1 << 62)
DATETIMES = st.datetimes(timezones=st.none() | st.just(UTC), allow_imaginary=False).map(lambda one: one.replace(fold=0))
VALUES = st.lists(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | PATHS | DATETIMES | st.dates()
).map(tuple)
TABLES = st.one_of(
    st.builds(TextMiniBatch, NUMBERS, PATHS, NUMBERS, NUMBERS, st.none() | NUMBERS, PATHS),
    st.builds(RowGroupMiniBatch, NUMBERS, PATHS, NUMBERS, NUMBERS, st.none() | NUMBERS, PATHS),
)
FRAMES = st.builds(FrameMiniBatch, NUMBERS, st.binary(), NUMBERS, NUMBERS)
MINI_BATCHES = st.one_of(
    st.builds(FileMiniBatch, NUMBERS, st.lists(PATHS).map(tuple), st.lists(PATHS).map(tuple), VALUES),
    st.builds(FileMiniBatch, NUMBERS, st.lists(PATHS).map(tuple), st.just(()), st.just(())),
    TABLES,
    st.builds(QueryMiniBatch, NUMBERS),
    FRAMES,
    st.builds(PartMiniBatch, NUMBERS, st.lists(TABLES).map(tuple), VALUES, st.lists(PATHS).map(tuple)),
)


def with_types(value):
    """Equal only where types are, too: 1, 1.0 and True are three keys."""
    if isinstance(value, tuple):
        return type(value), [with_types(one) for one in value]
    return type(value), repr(value)


@given(MINI_BATCHES)
def test_what_is_read_is_what_was_written(mini_batch):
    line = to_line(mini_batch)
    assert with_types(from_line(line)) == with_types(kept(mini_batch))
    assert from_line(line.encode("ascii")) == from_line(line)


@given(st.lists(MINI_BATCHES, max_size=5))
def test_some_lines_are_read_as_each_is(mini_batches):
    lines = [to_line(one).encode("ascii") for one in mini_batches]
    assert with_types(tuple(from_lines(lines))) == with_types(tuple(map(from_line, lines)))


@pytest.mark.parametrize(
    "lines", [[b'["query",0]', b"7"], [b'["query",0],["query",0]'], [b'["query",0', b"0]"], [b"{}"]]
)
def test_some_lines_of_which_one_is_another_are_refused(lines):
    with pytest.raises(ValueError, match="mini-batch|Extra data|Expecting|unpack"):
        from_lines(lines)


@given(MINI_BATCHES)
def test_a_line_is_one_line_of_printable_ascii(mini_batch):
    assert set(to_line(mini_batch)) <= set(string.printable) - set("\n\r\t\v\f")


@given(MINI_BATCHES)
def test_a_line_is_json_as_any_reader_has_it(mini_batch):
    json.loads(to_line(mini_batch), parse_constant=pytest.fail)


@given(FRAMES, FRAMES)
def test_rows_in_memory_become_a_hash_that_tells_them_apart(one, other):
    assert (to_line(one) == to_line(other)) == (one == other)
    assert one.detail == kept(one).detail
    assert one.items == kept(one).items


def test_the_form_is_what_journals_of_this_version_hold():
    assert to_line(FileMiniBatch(0, ("/a", "/b"))) == r'["files",0,"/a\n/b"]'
    assert to_line(FileMiniBatch(0, ("/a\n", "/b"))) == r'["files",0,["/a\n","/b"]]'
    assert to_line(FileMiniBatch(1, ("s3://b/a",), ("3-x",), (2, None))) == '["files",1,"s3://b/a","3-x",[2,null]]'
    assert to_line(TextMiniBatch(0, "/a", 5, 9, version="9-1")) == '["text",0,"/a",5,9,null,"9-1"]'
    assert to_line(TextMiniBatch(0, "/\udce4", -1, -1)) == r'["text",0,"/\udce4",-1,-1]'
    assert to_line(RowGroupMiniBatch(0, "/a", 0, 3, 30)) == '["row_groups",0,"/a",0,3,30]'
    parts = (TextMiniBatch(0, "/a", -1, -1),)
    assert (
        to_line(PartMiniBatch(0, parts, (1.5,), ("float",)))
        == '["combination",0,[["text",0,"/a",-1,-1]],[{"float":"1.5"}],["float"]]'
    )
    assert to_line(QueryMiniBatch(2)) == '["query",2]'
    assert to_line(FrameMiniBatch(0, b"", 10, 5)) == '["rows",0,"cae66941d9efbd404e4d88758ea67670",10,5]'
    assert from_line('["rows",0,"ab",10,5]') == RowsHash(0, "ab", 10, 5)


@pytest.mark.parametrize(
    "line",
    ["", "[", "{}", "7", "[]", '["files"]', '["files",0,7]', '["query"]', '["other",0]', '["text",0,"/a"]',
     '["files",0,"/a","",[{"float":"1","int":"2"}]]', '["files",0,"/a","",[{"bytes":"1"}]]', "[" * 100_000,
     '["combination",0,"/a",[]]', '["combination",0,[["other"]],[]]'],
)  # fmt: skip
def test_another_line_is_refused(line):
    with pytest.raises(ValueError, match="mini-batch|JSON|Expecting|unpack"):
        from_line(line)


def test_a_part_of_a_mini_batch_is_refused():
    with pytest.raises(TypeError, match="a part of a mini-batch is in no listing"):
        to_line(BisectedMiniBatch(FileMiniBatch(0, ("/a",)), Part(3, 0, 1, 2)))


def test_a_value_that_no_path_tells_is_refused():
    with pytest.raises(TypeError, match="a partition key of type bytes"):
        to_line(FileMiniBatch(0, ("/a",), (), (b"x",)))
