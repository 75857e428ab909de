"""Mini-batches of files in stores: local paths, held until the attempt is over."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from prs_dask.datasets import ReadSpec
from prs_dask.datasets.local_files import local_version
from prs_dask.errors import ReadError
from prs_dask.mini_batches import FileMiniBatch
from prs_dask.stores import store as store_module
from prs_dask.worker_process.cached_inputs import CachedInputs

SPEC = ReadSpec("files", mode="download")


class FakeStore:
    def __init__(self):
        self.downloads = []
        self.failing = {}
        self.together = None

    def download(self, info, target):
        self.downloads.append(info)
        if self.together is not None:
            self.together.wait(5)
        if info.path in self.failing:
            raise self.failing[info.path]
        target.write_text(info.path)


@pytest.fixture
def store(monkeypatch):
    store = FakeStore()
    monkeypatch.setattr(store_module, "store_of", lambda url, options=None: store)
    return store


@pytest.fixture
def inputs(tmp_path, no_leaks):
    inputs = CachedInputs(str(tmp_path / "cache"), 1 << 20)
    yield inputs
    inputs._cache.close()


def urls(*names):
    return tuple(f"s3://box/{name}" for name in names)


def read(inputs, *paths, versions=()):
    found = inputs.read(FileMiniBatch(0, paths, versions), SPEC)
    assert isinstance(found, list)
    return found


def test_urls_become_local_paths_in_order_and_local_paths_stay(inputs, store):
    found = read(inputs, *urls("b", "a"), "/data/c", *urls("b"))
    assert [Path(path).read_text() for path in (found[0], found[1], found[3])] == list(urls("b", "a", "b"))
    assert found[2] == "/data/c"
    assert [os.path.basename(path) for path in found] == ["b", "a", "c", "b"]
    assert sorted(info.path for info in store.downloads) == list(urls("a", "b"))


def test_versions_and_sizes_reach_the_store(inputs, store):
    size = len(urls("a")[0])
    read(inputs, *urls("a"), versions=(f"{size}-etag",))
    assert [tuple(info) for info in store.downloads] == [(urls("a")[0], size, f"{size}-etag")]


def test_local_files_beside_those_in_stores_have_to_be_what_was_listed(inputs, store, tmp_path):
    path = tmp_path / "local"
    path.write_text("1")
    version = local_version(str(path))
    assert read(inputs, *urls("a"), str(path), versions=("", version))[1] == str(path)
    path.write_text("12")
    with pytest.raises(ReadError, match="local: the file was changed since it was listed"):
        read(inputs, *urls("a"), str(path), versions=("", version))


def test_files_are_downloaded_at_the_same_time_and_no_thread_is_left(inputs, store):
    store.together = threading.Barrier(4)
    read(inputs, *urls(*"abcd"))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prs-download")]


def test_what_is_there_takes_no_store(inputs, store, monkeypatch):
    read(inputs, *urls("a"))
    monkeypatch.setattr(store_module, "store_of", None)
    assert Path(read(inputs, *urls("a"))[0]).read_text() == urls("a")[0]


def test_one_missing_file_fails_the_mini_batch_with_its_own_error(inputs, store):
    store.failing = {urls("b")[0]: FileNotFoundError("s3://box/b")}
    with pytest.raises(FileNotFoundError, match="s3://box/b"):
        read(inputs, *urls(*"abc"))


def test_files_are_held_until_they_are_let_go(inputs, store, tmp_path):
    [path] = read(inputs, *urls("a"))
    other = CachedInputs(str(tmp_path / "cache"), None)
    key = os.path.basename(os.path.dirname(path))
    with other._cache._new_locks() as own:
        assert not other._cache._remove(own, key)
    inputs.let_go()
    with other._cache._new_locks() as own:
        assert other._cache._remove(own, key)
    other._cache.close()


def test_tables_and_direct_urls_are_read_as_ever(inputs, store):
    mini_batch = FileMiniBatch(0, urls("a"))
    assert inputs.read(mini_batch, ReadSpec("files", mode="direct")) == list(urls("a"))
    assert inputs.read(FileMiniBatch(0, ("/data/c",)), ReadSpec("files")) == ["/data/c"]
    assert store.downloads == []
