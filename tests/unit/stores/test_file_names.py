"""Files are called as their URLs call them, as far as a disk takes that."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prs_dask.stores.file_names import cache_key, local_names


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("s3://bucket/a/b/scan 1.png", "scan 1.png"),
        ("s3://bucket/what?.csv", "what?.csv"),
        ("s3://bucket/100%25#1.csv", "100%25#1.csv"),
        ("https://host/a/b.csv?sig=abc%2Fdef#top", "b.csv"),
        ("https://host/a/%C3%A4%20b.csv", "ä b.csv"),
        ("https://host/a/x%2Fy.csv", "x_y.csv"),
        ("https://host/a/", "a"),
        ("abfs://box@account.dfs.core.windows.net/..", "file"),
        ("s3://bucket/a/nul\0.txt", "nul_.txt"),
        ("s3://bucket/line\nbreak.txt", "line\nbreak.txt"),
        ("s3://bucket/bad\ud800.txt", "bad?.txt"),
        ("s3://bucket/raw\udcff.txt", "raw\udcff.txt"),
        ("zip://inner.csv::s3://bucket/a.zip", "inner.csv"),
    ],
)
def test_the_name_is_that_of_the_url(url, name):
    assert local_names(url)[0] == name


def test_a_name_that_is_too_long_keeps_its_suffix():
    first, second, plain = local_names("s3://bucket/" + "ä" * 500 + ".parquet")
    assert [len(os.fsencode(name)) for name in (first, second)] == [254, 142]
    assert first.endswith("ä.parquet")
    assert second.endswith("ä.parquet")
    assert plain == "file.parquet"


@given(st.text())
def test_whatever_the_url_a_disk_takes_one_of_the_names(name):
    for found in local_names("s3://bucket/" + name) + local_names("https://host/" + name):
        encoded = os.fsencode(found)
        assert 0 < len(encoded) <= 255
        assert b"/" not in encoded
        assert b"\0" not in encoded
        assert found not in (".", "..")


@given(st.tuples(st.text(), st.text()), st.tuples(st.text(), st.text()))
def test_different_files_have_different_keys(one, other):
    assert (cache_key(*one) == cache_key(*other)) == (one == other or "\0".join(one) == "\0".join(other))
