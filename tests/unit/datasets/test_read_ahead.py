"""Files of stores are read ahead of the cutting: the same mini-batches, in order, and a bound for what waits."""

from __future__ import annotations

import gzip
import itertools
import threading
import time
from pathlib import Path

import fsspec
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prs_dask.datasets import TabularDataset, read_ahead
from prs_dask.datasets.cutting import cut_parquet, cut_text
from prs_dask.datasets.read_ahead import MOST_AT_ONCE, ReadAhead, Span, all_of, at_edges
from prs_dask.datasets.read_spec import ReadSpec
from prs_dask.datasets.store_listing import ListedPath
from prs_dask.errors import InputError
from prs_dask.stores import StorageOptions, store_of

CSV = ReadSpec("delimited")
LINES = ReadSpec("delimited", multi_line=False)
JSON = ReadSpec("json_lines")


def memory_file(name, data):
    """In fsspec's memory; as it is listed."""
    fsspec.filesystem("memory").pipe_file(f"/ahead/{name}", data)
    return ListedPath.of(store_of("memory://ahead").info(f"memory://ahead/{name}"))


@pytest.fixture
def small(monkeypatch):
    """Pieces of a few bytes, so that small files have many."""
    monkeypatch.setattr(read_ahead, "WINDOW", 50)
    monkeypatch.setattr(read_ahead, "EDGE", 9)


def ranges(batches):
    return [(batch.path.rpartition("/")[2], batch.start, batch.stop) for batch in batches]


FIELD = st.text(alphabet=st.sampled_from('ab,"\r\n é'), max_size=12)
TEXT = st.lists(st.lists(FIELD, min_size=1, max_size=4), max_size=12).map(
    lambda rows: "\n".join(",".join('"' + field.replace('"', '""') + '"' for field in row) for row in rows)
)


@settings(max_examples=150)
@given(st.lists(TEXT, min_size=1, max_size=5), st.integers(1, 120), st.sampled_from([CSV, JSON]), st.booleans())
def test_text_in_a_store_is_cut_as_on_this_machine(tmp_path_factory, texts, size, spec, bom):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(read_ahead, "WINDOW", 50)
        patch.setattr(read_ahead, "EDGE", 9)
        folder = tmp_path_factory.mktemp("text")
        local, remote = [], []
        for number, text in enumerate(texts):
            data = b"\xef\xbb\xbf" * bom + text.encode()
            (folder / str(number)).write_bytes(data)
            local.append(str(folder / str(number)))
            remote.append(memory_file(str(number), data))
        header = "each" if spec is CSV else "none"
        assert ranges(cut_text(remote, size, 0, spec, header)) == ranges(cut_text(local, size, 0, spec, header))


@settings(max_examples=50)
@given(st.lists(st.integers(0, 60), min_size=1, max_size=30), st.integers(1, 200))
def test_lines_in_a_store_are_cut_as_on_this_machine(tmp_path_factory, lengths, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(read_ahead, "WINDOW", 50)
        patch.setattr(read_ahead, "EDGE", 9)
        data = b"".join(b"x" * length + b"\n" for length in lengths)
        file = tmp_path_factory.mktemp("lines") / "a"
        file.write_bytes(data)
        remote = cut_text([memory_file("a", data)], size, 0, LINES, "none")
        assert ranges(remote) == ranges(cut_text([str(file)], size, 0, LINES, "none"))


def test_compressed_text_and_parquet_files_are_cut_as_on_this_machine(tmp_path):
    frame = pd.DataFrame({"a": range(1000)})
    frame.to_parquet(tmp_path / "a.parquet", row_group_size=100)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"a,b\n1,2\n" * 50_000))
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(b"a,b\n"))
    texts, tables = (sorted(map(str, tmp_path.glob(pattern))) for pattern in ("*.gz", "*.parquet"))

    def there(paths):
        return [memory_file(path.rpartition("/")[2], Path(path).read_bytes()) for path in paths]

    assert ranges(cut_text(there(texts), 10, 0, CSV, "each")) == [("a.csv.gz", 4, -1)]
    assert ranges(cut_text(texts, 10, 0, CSV, "each")) == [("a.csv.gz", 4, -1)]
    groups = [(batch.first, batch.stop, batch.items) for batch in cut_parquet(there(tables), 1, 0, CSV)]
    assert groups == [(number, number + 1, 100) for number in range(10)]


def test_mini_batches_come_before_the_listing_has_ended(small):
    listed = []

    def files():
        for number in itertools.count():  # it never ends
            listed.append(number)
            yield memory_file(str(number % 3), b"a,b\n1,2\n")

    batches = cut_text(files(), 10, 0, CSV, "each")
    assert ranges(itertools.islice(batches, 40)) == [(str(number % 3), 4, 8) for number in range(40)]
    assert len(listed) <= 41 + MOST_AT_ONCE
    batches.close()


def test_local_files_are_looked_at_in_their_turn_only(tmp_path):
    (tmp_path / "1").write_bytes(b"a\n1\n")
    batches = cut_text([str(tmp_path / "1"), str(tmp_path / "2")], 10, 0, CSV, "each")
    assert next(batches).path == str(tmp_path / "1")
    (tmp_path / "2").write_bytes(b"a\n2\n")
    assert ranges(batches) == [("2", 2, 4)]


def test_an_error_of_the_listing_comes_after_the_files_before_it(small):
    def files():
        yield memory_file("1", b"a\n1\n" * 100)
        yield memory_file("2", b"a\n1\n")
        raise InputError([])

    batches = cut_text(files(), 100, 0, CSV, "each")
    found = []
    with pytest.raises(InputError):
        found.extend(batches)
    assert [name for name, _, _ in ranges(found)] == ["1"] * 4 + ["2"]


def test_a_file_that_is_gone_or_shorter_fails_alone(small):
    paths = [memory_file(str(number), b"a\n1\n" * 50) for number in range(4)]
    fsspec.filesystem("memory").rm("/ahead/1")
    fsspec.filesystem("memory").pipe_file("/ahead/2", b"a\n1\n")
    found = ranges(cut_text(paths, 1000, 0, CSV, "each"))
    assert found == [("0", 2, 200), ("1", -1, -1), ("2", -1, -1), ("3", 2, 200)]
    tables = [(batch.path[-1], batch.items) for batch in cut_parquet(paths, 10, 0, CSV)]  # none of them is Parquet
    assert tables == [(str(number), None) for number in range(4)]


def test_a_file_of_which_no_size_is_known_is_handed_out_whole(web):
    url = web.put("a.csv", b"a\n1\n")
    web.lengths = False
    assert ranges(TabularDataset.from_delimited_files(url).mini_batches(10)) == [("a.csv", -1, -1)]


# -------------------------------------------------------------------- requests


@pytest.fixture
def far(s3, faulty_s3):
    """A dataset of CSV files behind a slow line, and the proxy that makes it slow."""

    def make(files, rows=10):
        bucket = s3.bucket()
        for number in range(files):
            s3.put(f"{bucket}/{number:02}.csv", b"a,b\n" + b'1,"x"\n' * rows)
        return TabularDataset.from_delimited_files(bucket, storage_options=s3.through(faulty_s3.port))

    yield make, faulty_s3
    assert not reading_threads()


def reading_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("prs-read-ahead")]


def gets(proxy):
    return [path for method, path in proxy.requests if method == "GET" and ".csv" in path]


def test_requests_are_under_way_side_by_side_and_their_answers_in_order(far):
    make, proxy = far
    dataset = make(30)
    list(dataset.mini_batches(1000))
    proxy.most_at_once = 0
    proxy.seconds = 0.1
    assert [batch.path[-6:-4] for batch in dataset.mini_batches(1000)] == [f"{number:02}" for number in range(30)]
    assert 4 <= proxy.most_at_once <= MOST_AT_ONCE


def test_a_large_file_is_read_by_requests_side_by_side(far, small):
    make, proxy = far
    dataset = make(1, rows=200)
    list(dataset.mini_batches(1000))
    proxy.most_at_once = 0
    proxy.seconds = 0.1
    assert len(list(dataset.mini_batches(300))) == 4
    assert proxy.most_at_once >= 4
    assert len(gets(proxy)) == 2 * -(-1204 // 50)  # nothing is read twice


def test_what_nobody_takes_is_not_asked_for(far):
    make, proxy = far
    batches = make(40).mini_batches(1000)
    next(batches)
    time.sleep(0.3)
    assert len(gets(proxy)) <= 4
    batches.close()


def test_faults_are_survived_and_a_store_that_stays_down_fails_its_files(far, monkeypatch):
    monkeypatch.setattr("prs_dask.stores.retries.FIRST_WAIT", 0.01)
    make, proxy = far
    dataset = make(6)
    proxy.times(4, 503, path=".csv")
    assert len(ranges(dataset.mini_batches(1000))) == 6
    proxy.fault = lambda method, path, _: 503 if "03.csv" in path else None
    assert [start for _, start, _ in ranges(dataset.mini_batches(1000))] == [4, 4, 4, -1, 4, 4]


def test_closing_does_not_wait_for_further_tries(far, monkeypatch):
    monkeypatch.setattr("prs_dask.stores.retries.FIRST_WAIT", 30.0)
    make, proxy = far
    batches = make(6).mini_batches(1000)
    proxy.fault = lambda method, path, _: 503 if path.split("?")[0].endswith(("2.csv", "3.csv")) else None
    next(batches)
    next(batches)
    time.sleep(0.2)
    begun = time.monotonic()
    batches.close()
    assert time.monotonic() - begun < 5
    assert not reading_threads()


def test_a_listing_that_fails_or_ends_leaves_no_thread(far):
    make, proxy = far
    dataset = make(6)
    dataset.plan(1000, n=2)
    list(dataset.mini_batches(1000))
    proxy.times(100, 403, path="list-type=2")
    with pytest.raises(InputError):
        list(dataset.mini_batches(1000))
    assert not reading_threads()


def test_after_a_long_answer_less_is_asked_for_at_once(monkeypatch):
    now = itertools.count(0, 10)
    paths = [memory_file(str(number), b"x") for number in range(8)]
    with ReadAhead(paths, lambda _, size: all_of(size), None) as ahead:
        for path in ahead:
            ahead.open(path).read_at(0, 1)
        assert ahead.at_once > 8
    monkeypatch.setattr(read_ahead.time, "monotonic", lambda: next(now))
    with ReadAhead(paths, lambda _, size: all_of(size), None) as ahead:
        for path in ahead:
            ahead.open(path).read_at(0, 1)
        assert ahead.at_once == 1


# -------------------------------------------------------------------- spans


@given(st.integers(0, 1 << 26), st.integers(1, 1 << 24))
def test_spans_lie_within_the_file_in_order(size, block):
    spans = list(at_edges(size, block))
    assert all(span.size > 0 and sum(span) <= size for span in spans)
    assert all(sum(one) <= other.offset for one, other in itertools.pairwise(spans))
    assert sum(span.size for span in all_of(size)) == size


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.integers(0, 1100), st.integers(1, 200)), max_size=8),
    st.lists(st.tuples(st.integers(0, 1100), st.integers(0, 300)), min_size=1, max_size=12),
)
def test_a_file_gives_the_bytes_that_are_asked_for_whatever_was_expected(expected, reads):
    data = bytes(range(251)) * 4
    path = memory_file("bytes", data)
    spans = [Span(offset, min(size, len(data) - offset)) for offset, size in sorted(expected) if offset < len(data)]
    with ReadAhead([path], lambda *_: spans, None) as ahead:
        for one in ahead:
            with ahead.open(one) as text:
                for offset, size in reads:
                    assert text.read_at(offset, size) == data[offset : offset + size]


def test_options_of_the_store_are_not_shown():
    ahead = ReadAhead([], lambda *_: (), StorageOptions({"secret": "canary"}))
    assert "canary" not in repr(vars(ahead))
