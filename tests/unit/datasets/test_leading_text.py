"""The head of a text file when its records are long, or never end."""

from __future__ import annotations

import gzip

import pytest

from prs_dask import InputError
from prs_dask.datasets import ReadError, TabularDataset, cutting, leading_text, reading
from prs_dask.datasets.leading_text import leading_text as leading
from prs_dask.datasets.read_spec import ReadSpec
from prs_dask.datasets.reading import read

MIB = 1 << 20


@pytest.mark.parametrize("multi_line", [True, False])
@pytest.mark.parametrize("long", [b"x" * 9 * MIB, b'"' + b"x,\r" * 3 * MIB + b'"'], ids=["plain", "quoted"])
def test_a_very_long_record_is_no_part_of_the_head(tmp_path, long, multi_line):
    if not multi_line and b"\r" in long:
        long = long.replace(b"\r", b" ")
    path = tmp_path / "a.csv"
    path.write_bytes(b"id,text\n1,a\n2,b\n3," + long + b"\n4,d\n")
    head = leading(str(path), ReadSpec("delimited", multi_line=multi_line), at_least=MIB)
    assert head == (b"id,text\n", b"1,a\n2,b\n")


def test_a_long_record_that_is_the_only_one_is_the_head(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"id,text\n1," + b"x" * 9 * MIB + b"\n2,b\n")
    head = leading(str(path), ReadSpec("delimited"), at_least=MIB)
    assert head is not None
    assert len(head.following) == 9 * MIB + 3


def test_types_come_from_the_records_before_a_very_long_one(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"id,text\n1,a\n2,b\n3," + b"x" * 9 * MIB + b"\n4,d\n")
    dataset = TabularDataset.from_delimited_files(path)
    spec = dataset.reader()
    assert dict(spec.column_types)["id"] == "int64"
    assert [row for batch in dataset.mini_batches(MIB) for row in read(batch, spec)["id"]] == [1, 2, 3, 4]


@pytest.fixture
def bomb(tmp_path, monkeypatch):
    """A folder with a file that decompresses to far more than a first record may have, and a good one."""
    for module in (leading_text, cutting):
        monkeypatch.setattr(module, "LONGEST", MIB)
    (tmp_path / "bomb.csv.gz").write_bytes(gzip.compress(bytes(20 * MIB)))
    (tmp_path / "good.csv").write_bytes(b"id\n1\n2\n")
    return tmp_path


def test_a_file_that_decompresses_without_end_is_refused_where_all_names_come_from_it(bomb):
    dataset = TabularDataset.from_delimited_files(bomb, header="only_first_file")
    with pytest.raises(InputError, match=r"bomb.csv.gz.*its first record does not end within 256 MiB"):
        dataset.reader()


def test_a_file_that_decompresses_without_end_fails_alone(bomb, monkeypatch):
    monkeypatch.setattr(reading, "_MUCH", MIB)
    monkeypatch.setattr(reading, "_free_memory", lambda: 5 * MIB)
    dataset = TabularDataset.from_delimited_files(bomb)
    spec = dataset.reader()
    bad, good = dataset.mini_batches(MIB)
    assert list(read(good, spec)["id"]) == [1, 2]
    with pytest.raises(ReadError, match=r"bomb.csv.gz: its text is of .* bytes and more, and there is no memory"):
        read(bad, spec)
