"""With ``support_multi_line=False``: what is told, and how little is read. That no row is wrong: ``test_oracle.py``."""

from __future__ import annotations

import gzip

import pytest

from prs_dask.datasets import ReadError, TabularDataset
from prs_dask.datasets.read_spec import UnsafeCut
from prs_dask.datasets.reading import read
from prs_dask.datasets.text_file import PlainText
from prs_dask.errors import InputError


def as_lines(path, **settings):
    return TabularDataset.from_delimited_files(path, dtype=str, support_multi_line=False, **settings)


def outcomes(dataset, size):
    """For each mini-batch its rows or its error."""
    spec = dataset.reader()
    found = []
    for batch in dataset.mini_batches(size):
        try:
            found.append(read(batch, spec).values.tolist())
        except ReadError as error:
            found.append(error)
    return found


def multi_line_file(folder, before=1000, inside=10, behind=1000):
    path = folder / "table.csv"
    path.write_bytes(
        b"a,b\n" + b"1,xxxx\n" * before + b'2,"y\n' + b"3,yyyy\n" * inside + b'y"\n' + b"4,zzzz\n" * behind
    )
    return path


def test_the_error_names_file_line_offset_and_the_option_to_set(tmp_path):
    dataset = as_lines(multi_line_file(tmp_path))
    _, hit, *_ = outcomes(dataset, 5000)
    assert type(hit) is UnsafeCut
    for word in ("table.csv, line 1002, byte 7006", 'support_multi_line="auto"'):
        assert word in str(hit)


def test_a_block_that_begins_within_a_quoted_field_sees_it_in_what_lies_before(tmp_path):
    found = outcomes(as_lines(multi_line_file(tmp_path, before=100, inside=1000)), 1000)
    assert [type(one) for one in found[:8]] == [UnsafeCut] * 8


def test_in_a_files_last_block_a_quote_left_open_is_its_own_error_only(tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes(b"a,b\n" + b"1,x\n" * 10 + b'2,"x\n')
    *good, last = outcomes(as_lines(path), 10)
    assert [row for rows in good for row in rows] == [["1", "x"]] * 10
    assert type(last) is ReadError


@pytest.mark.parametrize("header", ["all_files_same_headers", "only_first_file"])
def test_a_header_that_goes_on_in_the_next_line_is_refused(tmp_path, header):
    path = tmp_path / "table.csv"
    path.write_bytes(b'"a\nb",c\n1,2\n')
    dataset = as_lines(path, header=header)
    with pytest.raises(InputError, match=r"byte 0 of .*table.csv.*support_multi_line='auto'"):
        outcomes(dataset, 10)


@pytest.mark.parametrize("text", [b'"a\nb"\n1\n', b'a,b\n1,"x\ny"\n'])
def test_a_compressed_file_fails_its_own_mini_batch_only(tmp_path, text):
    path = tmp_path / "table.csv.gz"
    path.write_bytes(gzip.compress(text))
    [only] = outcomes(as_lines(path), 10)
    assert type(only) is ReadError
    assert "quote" in str(only)


def test_the_plan_reads_only_a_little_at_each_edge(tmp_path, monkeypatch):
    path = tmp_path / "table.csv"
    line = b'1,"some text, with a comma"\n'
    path.write_bytes(b"a,b\n" + line * (10_000_000 // len(line)))
    read_at, counted = PlainText.read_at, []

    def counting(self, offset, size):
        data = read_at(self, offset, size)
        counted.append(len(data))
        return data

    monkeypatch.setattr(PlainText, "read_at", counting)
    plan = TabularDataset.from_delimited_files(path, support_multi_line=False).plan(1_000_000)
    assert len(plan) == 10
    assert sum(counted) < 12 * 10_000
    counted.clear()
    TabularDataset.from_delimited_files(path).plan(1_000_000)
    assert sum(counted) >= path.stat().st_size
