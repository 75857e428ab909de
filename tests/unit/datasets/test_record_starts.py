"""Where records start, held against a state machine that looks at one byte at a time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prs_dask.datasets.quotes import unclosed_in_line
from prs_dask.datasets.record_starts import OpenQuote, RecordStarts

TEXTS = st.text(alphabet=st.sampled_from('ab,"\r\n '), max_size=60).map(str.encode)


def slices(data: bytes):
    return lambda offset, size: data[offset : offset + size]


def starts_byte_by_byte(data: bytes, quoted: bool = True) -> list[int]:
    """csv's rules, slowly. Raises OpenQuote as RecordStarts does."""
    starts, state, line_is_new, opened = [], "field start", True, -1
    for place, byte in enumerate(data):
        character = chr(byte)
        if state == "quoted":
            state = "quote in quoted" if character == '"' else "quoted"
            continue
        if state == "quote in quoted" and character == '"':
            state = "quoted"
            continue
        if character in "\r\n":
            state, line_is_new = "field start", True
            continue
        if line_is_new:
            starts.append(place)
            line_is_new = False
        if character == '"' and state == "field start" and quoted:
            state, opened = "quoted", place
        else:
            state = "field start" if character == "," else "field"
    if state == "quoted":
        raise OpenQuote(opened)
    return starts


def all_starts(data: bytes, **rules) -> list[int]:
    records = RecordStarts(slices(data), **rules)
    found, start = [], records.first()
    while start is not None:
        found.append(start)
        start = records.after(start)
    return found


def outcome(function, *arguments, **keywords):
    try:
        return function(*arguments, **keywords)
    except OpenQuote as error:
        return error


@given(TEXTS, st.integers(1, 9))
def test_starts_are_those_of_a_machine_that_looks_at_every_byte_whatever_the_chunks(data, chunk_size):
    found, expected = outcome(all_starts, data, chunk_size=chunk_size), outcome(starts_byte_by_byte, data)
    assert found == expected or type(found) is type(expected) is OpenQuote


@given(TEXTS, st.integers(1, 9))
def test_an_open_quote_is_told_with_its_place(data, chunk_size):
    expected = outcome(starts_byte_by_byte, data)
    if isinstance(expected, OpenQuote):
        with pytest.raises(OpenQuote) as raised:
            all_starts(data, chunk_size=chunk_size)
        assert raised.value.offset == expected.offset


@given(TEXTS)
def test_without_quoting_every_line_with_something_in_it_is_a_record(data):
    assert all_starts(data, quoted=False) == starts_byte_by_byte(data, quoted=False)


@given(TEXTS, st.integers(0, 70), st.booleans(), st.integers(1, 9))
def test_asking_beyond_an_edge_gives_the_first_start_beyond_it(data, edge, quoted, chunk_size):
    try:
        expected = next((start for start in starts_byte_by_byte(data, quoted) if start > edge), None)
    except OpenQuote:
        return
    assert RecordStarts(slices(data), quoted=quoted, chunk_size=chunk_size).after(edge) == expected


@given(st.text(alphabet=st.sampled_from('a" \t\r\n'), max_size=60).map(str.encode), st.integers(0, 70))
def test_in_json_lines_only_a_newline_ends_a_record_and_blank_lines_are_none(data, edge):
    expected, place = [], 0
    for line in data.split(b"\n"):
        if line.strip(b" \t\r"):
            expected.append(place)
        place += len(line) + 1
    rules = {"quoted": False, "only_newline": True}
    assert all_starts(data, **rules) == expected
    beyond = next((start for start in expected if start > edge), None)
    assert RecordStarts(slices(data), **rules).after(edge) == beyond


def test_a_quote_in_the_middle_of_an_unquoted_field_is_an_ordinary_character():
    data = b'1,5" pipe,x\n2,3" pipe,"a\nb"\n3,x,y\n'
    assert all_starts(data) == [0, 12, 28]


def test_only_a_little_is_read_at_each_edge_when_records_are_lines():
    data = b"0123456789\n" * 1_000_000
    read = 0

    def read_at(offset, size):
        nonlocal read
        piece = data[offset : offset + size]
        read += len(piece)
        return piece

    records = RecordStarts(read_at, quoted=False)
    assert records.first() == 0
    for edge in range(1_000_000, 11_000_000, 1_000_000):
        records.after(edge)
    assert read <= 12 * 8192


@given(TEXTS)
def test_a_quote_open_at_a_line_end_is_found_exactly_if_quoting_changes_the_records(data):
    place = unclosed_in_line(data, b",")
    lines, offset, expected = data.replace(b"\r", b"\n").split(b"\n"), 0, None
    for line in lines:
        try:
            starts_byte_by_byte(line)
        except OpenQuote as error:
            expected = offset + error.offset
            break
        offset += len(line) + 1
    if expected is None:
        assert place is None
    else:
        assert place == expected
