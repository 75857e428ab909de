"""Files on their shelves, and which are compared."""

import os

import pytest

from prs_dask.stores import shelves as module
from prs_dask.stores.shelves import Entry, Shelves, longest_unused_first


@pytest.fixture
def shelves(tmp_path):
    return Shelves(tmp_path)


@pytest.fixture
def put(shelves, tmp_path):
    def put_one(key, content=b"abc", name="x.csv"):
        (tmp_path / name).write_bytes(content)
        return shelves.put(key, tmp_path / name, tmp_path / "told")

    return put_one


def keys(shelves, *, used):
    return sorted(entry.key for sample in shelves.samples(used=used) for entry in sample)


def test_a_file_waits_until_it_is_used(shelves, put):
    assert put("00aa") == 0
    put("ffbb")
    assert shelves.find("00aa").endswith("/00/files/00aa/x.csv")
    assert (keys(shelves, used=False), keys(shelves, used=True)) == (["00aa", "ffbb"], [])
    shelves.find("ffbb", use=True)
    assert (keys(shelves, used=False), keys(shelves, used=True)) == (["00aa"], ["ffbb"])


def test_what_was_put_anew_waits_again_and_tells_what_it_has_replaced(shelves, put):
    put("00aa", b"1234")
    path = shelves.find("00aa", use=True)
    os.truncate(path, 1)
    assert shelves.find("00aa") is None
    assert put("00aa", b"12") == 4
    assert (keys(shelves, used=False), keys(shelves, used=True)) == (["00aa"], [])
    assert shelves.remove("00aa") == 2
    assert shelves.remove("00aa") == 0


@pytest.mark.parametrize("told", [b"", b"nonsense", b"1 2 3"])
def test_what_makes_no_sense_tells_of_nothing(shelves, put, tmp_path, told):
    put("00aa")
    (tmp_path / "00" / "waiting" / "00aa").write_bytes(told)
    assert shelves.find("00aa") is None
    assert keys(shelves, used=False) == []
    assert shelves.remove("00aa") == 0
    assert not list(tmp_path.glob("*/*/*"))


def test_a_sample_is_of_bounded_size_and_all_together_are_all_where_there_are_few(shelves, put, monkeypatch):
    monkeypatch.setattr(module, "SAMPLE", 4)
    for number in range(20):
        put(f"{number:02x}aa")
    samples = list(shelves.samples(used=False))
    assert [len(sample) for sample in samples] == [4] * 5
    assert len({entry.key for sample in samples for entry in sample}) == 20
    for number in range(9):
        put(f"77{number:02x}")
    assert max(len(sample) for sample in shelves.samples(used=False)) <= 7


def test_the_longest_unused_go_first():
    a, b, c = Entry("a", 1, 3.0), Entry("b", 9, 1.0), Entry("c", 5, 3.0)
    assert longest_unused_first([c, a, b]) == [b, a, c]
