"""The rows of all mini-batches, held against Python's csv module reading the whole file at once.

The oracle knows nothing of how files are cut: csv tells the rows and how far it has read for each, and
from those offsets alone follows which rows belong together (behaviour, section 3).
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
from typing import NamedTuple
from unittest import mock

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prs_dask.datasets import ReadError, TabularDataset, records_as_lines
from prs_dask.datasets.cutting import blocks
from prs_dask.datasets.delimited import _NULLS
from prs_dask.datasets.read_spec import UnsafeCut
from prs_dask.datasets.reading import read
from prs_dask.datasets.record_starts import OpenQuote, RecordStarts
from prs_dask.errors import InputError

BOM = b"\xef\xbb\xbf"
COMPRESS = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: pa.compress(data, codec="zstd", asbytes=True),
}


class Record(NamedTuple):
    start: int
    """Offset of its first byte."""
    fields: tuple[bytes, ...]


def records_of(data: bytes, separator: str = ",") -> list[Record]:
    """What csv makes of the bytes, with the place where it began to read each record."""
    offset = 0

    def lines():
        nonlocal offset
        for line in io.StringIO(data.decode("latin-1"), newline=""):
            offset += len(line)
            yield line

    found, start = [], 0
    for fields in csv.reader(lines(), delimiter=separator):
        if fields:
            found.append(Record(start, tuple(field.encode("latin-1") for field in fields)))
        start = offset
    return found


def ends_inside_quotes(data: bytes) -> bool:
    """Whether csv, told to be strict about the end, finds a quote open there."""
    try:
        list(csv.reader(io.StringIO(data.decode("latin-1") + "\x01", newline="")))
        with_more = records_of(data + b"\n\x01")
    except csv.Error:
        return True
    return not with_more or with_more[-1].fields != (b"\x01",)


def in_blocks(records: list[Record], size: int) -> list[list[Record]]:
    """A record belongs to block i if i·size < start <= (i+1)·size; block 0 also has 0."""
    found: dict[int, list[Record]] = {}
    for record in records:
        number = 0
        while not (number * size < record.start <= (number + 1) * size or record.start == number == 0):
            number += 1
        found.setdefault(number, []).append(record)
    return list(found.values())


def text_rows(frame: pd.DataFrame) -> list[tuple[str, ...]]:
    return [tuple("" if pd.isna(value) else value for value in row) for row in frame.itertuples(index=False)]


def expected_rows(records: list[Record], encoding: str = "utf-8") -> list[tuple[str, ...]]:
    rows = [tuple(field.decode(encoding) for field in record.fields) for record in records]
    return [tuple("" if value in _NULLS else value for value in row) for row in rows]


FIELD = st.text(alphabet=st.sampled_from('ab,"\r\n é\t1'), max_size=5)
LINE_BREAK = st.sampled_from(["\n", "\r\n", "\r", "\n\n", "\r\n\r\n", "\n\r"])


@st.composite
def tables(draw, columns: int = 2, breaks_in_fields: bool = True, field=FIELD) -> str:
    """Written by the rules: quoted where needed and now and then where not."""
    text = ""
    for _ in range(draw(st.integers(0, 7))):
        written = []
        for value in draw(st.tuples(*[field] * columns)):
            if not breaks_in_fields:
                value = value.replace("\r", "").replace("\n", "")
            must = value.startswith('"') or any(character in value for character in ",\r\n") or not value
            written.append('"' + value.replace('"', '""') + '"' if must or draw(st.booleans()) else value)
        text += ",".join(written) + draw(LINE_BREAK)
    return text if draw(st.booleans()) else text.rstrip("\r\n")


@st.composite
def mutilated(draw) -> str:
    """Nearly by the rules: a few characters put in, taken out or changed anywhere."""
    text = draw(tables())
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(text)))
        text = text[:place] + draw(st.sampled_from(['"', '""', ",", "\n", "\r", "", "x"])) + text[place + 1 :]
    return text


@settings(max_examples=400)
@given(
    st.one_of(mutilated().map(str.encode), st.text(alphabet=st.sampled_from('a,"\r\n'), max_size=40).map(str.encode)),
    st.integers(1, 60),
    st.integers(1, 30),
)
def test_blocks_hold_the_records_that_csv_finds_whatever_the_block_and_the_chunk_of_the_scan(data, size, chunk_size):
    scan = RecordStarts(lambda offset, count: data[offset : offset + count], chunk_size=chunk_size)
    if ends_inside_quotes(data):
        with pytest.raises(OpenQuote):
            list(blocks(scan, scan.first(), len(data), size))
        return
    expected = in_blocks(records_of(data), size)
    found = list(blocks(scan, scan.first(), len(data), size))
    assert [start for start, _ in found] == [block[0].start for block in expected]
    assert [stop for _, stop in found] == [*(start for start, _ in found[1:]), *([len(data)] if found else [])]


@settings(max_examples=250)
@given(mutilated(), st.booleans(), st.integers(1, 90), st.sampled_from([True, "auto"]))
def test_each_mini_batch_has_the_rows_of_its_block_or_is_an_error_if_one_of_them_has_other_columns(
    tmp_path_factory, text, bom, size, multi_line
):
    data = BOM * bom + b"x,y\r\n" + text.encode()
    path = tmp_path_factory.mktemp("csv") / "table.csv"
    path.write_bytes(data)
    dataset = TabularDataset.from_delimited_files(path, dtype=str, support_multi_line=multi_line)
    if ends_inside_quotes(data):
        with pytest.raises(InputError, match="support_multi_line"):
            dataset.plan(size)
        return
    after_bom = [record._replace(start=record.start + 3 * bom) for record in records_of(data[3 * bom :])]
    spec, batches, expected = dataset.reader(), dataset.plan(size), in_blocks(after_bom[1:], size)
    assert len(batches) == len(expected)
    for batch, records in zip(batches, expected, strict=True):
        if all(len(record.fields) == 2 for record in records):
            assert text_rows(read(batch, spec)) == expected_rows(records)
        else:
            with pytest.raises(ReadError, match="fields"):
                read(batch, spec)


@settings(max_examples=150)
@given(tables(breaks_in_fields=False), st.booleans(), st.integers(1, 90))
def test_where_no_quoted_field_holds_a_line_break_records_as_lines_give_the_same(tmp_path_factory, text, bom, size):
    path = tmp_path_factory.mktemp("csv") / "table.csv"
    path.write_bytes(BOM * bom + b"x,y\n" + text.encode())
    found = []
    for multi_line in (False, "auto"):
        dataset = TabularDataset.from_delimited_files(path, dtype=str, support_multi_line=multi_line)
        spec, batches = dataset.reader(), dataset.plan(size)
        found.append(([batch[2:4] for batch in batches], [text_rows(read(batch, spec)) for batch in batches]))
    assert found[0] == found[1]


LINES = st.lists(st.text(alphabet=st.sampled_from('a,"'), max_size=7), max_size=12)


@settings(max_examples=400)
@given(
    LINES,
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.booleans(),
    st.integers(1, 60),
    st.sampled_from([0, 3, 1 << 13]),
    st.booleans(),
)
def test_with_records_as_lines_rows_are_those_of_csv_or_the_step_run_ends(
    tmp_path_factory, lines, line_break, ends, size, look_behind, has_header
):
    data = (line_break.join(["x,y"] * has_header + lines) + line_break * ends).encode()
    path = tmp_path_factory.mktemp("csv") / "table.csv"
    path.write_bytes(data)
    header = "all_files_same_headers" if has_header else "no_headers"
    dataset = TabularDataset.from_delimited_files(path, dtype=str, support_multi_line=False, header=header)
    try:
        spec, batches = dataset.reader(), dataset.plan(size)
    except InputError:
        return  # nothing was started
    found: list[tuple[int, int, list[tuple[str, ...]]]] = []
    is_unsafe = False
    for batch in batches:
        try:
            with mock.patch.object(records_as_lines, "LOOK_BEHIND", look_behind):
                found.append((batch.start, batch.stop, text_rows(read(batch, spec))))
        except UnsafeCut:
            is_unsafe = True
        except ReadError:
            continue  # ragged rows, or a quote left open in the last block
    if is_unsafe and look_behind < len(data):
        return  # the step run ends as Failed
    # Where the quote that is open lies within sight, not even a single mini-batch has wrong rows.
    records = records_of(data)
    for start, stop, rows in found:
        assert rows == expected_rows([record for record in records if start <= record.start < stop])


ENCODED = st.text(alphabet=st.sampled_from('ab,"\r\n é1'), max_size=5)


@settings(max_examples=200)
@given(
    st.lists(tables(field=ENCODED), min_size=1, max_size=3),
    st.sampled_from(["utf8", "utf-8-sig", "latin-1", "windows-1252", "utf-16"]),
    st.sampled_from(sorted(COMPRESS)),
    st.sampled_from(["all_files_same_headers", "only_first_file", "no_headers"]),
    st.integers(1, 90),
    st.integers(1, 3),
)
def test_every_encoding_compression_and_header_mode_gives_the_rows_of_csv(
    tmp_path_factory, files, encoding, ending, header, size, members
):
    folder = tmp_path_factory.mktemp("csv")
    expected, counts = [], []
    for number, text in enumerate(files):
        has_header = header == "all_files_same_headers" or (header == "only_first_file" and number == 0)
        text = "x,é\n" * has_header + text
        data = text.encode(encoding)
        step = -(-len(data) // members) if ending and data else len(data) + 1
        packed = b"".join(COMPRESS[ending](data[place : place + step]) for place in range(0, len(data) or 1, step))
        (folder / f"{number}.csv{ending}").write_bytes(packed)
        records = records_of(text.encode())[has_header:]
        expected += expected_rows(records)
        cuttable = not ending and encoding != "utf-16"
        bom = 3 if encoding == "utf-8-sig" else 0
        one_each = "latin-1" if encoding in ("latin-1", "windows-1252") else "utf-8"
        places = [
            record._replace(start=record.start + bom) for record in records_of(text.encode(one_each))[has_header:]
        ]
        counts += [len(block) for block in in_blocks(places, size)] if cuttable else [len(records)] * bool(records)
    dataset = TabularDataset.from_delimited_files(folder, dtype=str, encoding=encoding, header=header)
    spec = dataset.reader()
    found = [text_rows(read(batch, spec)) for batch in dataset.mini_batches(size)]
    assert [row for rows in found for row in rows] == expected
    assert [len(rows) for rows in found] == counts
